"""ONNX: a graph as it grows, node by node. Maps are f[b, c, h, w]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

CEILINGS = {"relu6": 6.0, "relu": None}


class Graph:
  """Nodes and weights of a graph, as they are added.

  Attributes:
    nodes: `onnx.NodeProto` of each node, in the order in which they run.
    weights: `onnx.TensorProto` of each array.
  """

  def __init__(self) -> None:
    self.nodes: list = []
    self.weights: list = []

  def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
    """Adds a node.

    Args:
      kind: name of the ONNX operator.
      *inputs: names of its inputs.
      **attributes: attributes of the operator.

    Returns:
      The name of its output.
    """
    from onnx import helper

    name = f"t{len(self.nodes)}"
    self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
    return name

  def weight(
    self, value: np.typing.ArrayLike, dtype: np.typing.DTypeLike = np.float32
  ) -> str:
    """Adds an array; returns its name."""
    from onnx import numpy_helper

    name = f"w{len(self.weights)}"
    array = np.ascontiguousarray(value, dtype)
    self.weights.append(numpy_helper.from_array(array, name))
    return name

  def integers(self, *values: int) -> str:
    """Adds a vector of integers, such as a shape; returns its name."""
    return self.weight(values, np.int64)

  def conv(
    self,
    x: str,
    kernel: np.ndarray,
    bias: np.ndarray | None,
    *,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
  ) -> str:
    """Adds a convolution, centred on each pixel; returns its output's name.

    Args:
      x: name of the input.
      kernel: f[k, k, in / groups, out].
      bias: f[out], or None for none.
      stride, groups, dilation: arguments of the convolution.
    """
    k = kernel.shape[0]
    weights = [self.weight(np.transpose(kernel, (3, 2, 0, 1)))]
    weights += [] if bias is None else [self.weight(bias)]
    window = dict(pads=[dilation * (k // 2)] * 4, dilations=[dilation] * 2)
    attributes = dict(kernel_shape=[k, k], group=groups, **window)
    return self.add("Conv", x, *weights, strides=[stride] * 2, **attributes)

  def norm(
    self,
    x: str,
    norm: Mapping[str, np.ndarray],
    *,
    epsilon: float,
    relu: bool,
  ) -> str:
    """Adds a batch norm by itself, and a ReLU where `relu`."""
    scale, bias = (self.weight(v[:, None, None]) for v in fold(norm, epsilon))
    x = self.add("Add", self.add("Mul", x, scale), bias)
    return self.add("Relu", x) if relu else x

  def activate(self, x: str, activation: str) -> str:
    """Adds an activation: 'relu6', 'relu' or 'linear'."""
    if activation == "linear":
      return x
    ceiling = CEILINGS[activation]
    if ceiling is None:
      return self.add("Relu", x)
    return self.add("Clip", x, self.weight(0.0), self.weight(ceiling))

  def conv_norm(
    self,
    x: str,
    kernel: np.ndarray,
    norm: Mapping[str, np.ndarray],
    *,
    epsilon: float,
    activation: str,
    **options: int,
  ) -> str:
    """Adds a convolution with the batch norm after it folded in.

    Args:
      x: name of the input.
      kernel: f[k, k, in / groups, out].
      norm: 'scale', 'bias', 'mean' and 'var' of the batch norm, f[out] each.
      epsilon: constant added to the variance in batch norm.
      activation: 'relu6', 'relu' or 'linear', after the batch norm.
      **options: see `conv`.

    Returns:
      The name of the output.
    """
    scale, bias = fold(norm, epsilon)
    kernel = np.asarray(kernel, np.float64) * scale
    return self.activate(self.conv(x, kernel, bias, **options), activation)


def fold(
  norm: Mapping[str, np.ndarray], epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
  """Batch norm as y = x * scale + bias: (scale, bias), f64[c] each."""
  scale = norm["scale"] / np.sqrt(norm["var"] + epsilon)
  return scale, norm["bias"] - norm["mean"] * scale
