"""ONNX: a graph as it grows, node by node. Maps are f[b, c, h, w]."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

CEILINGS = {"relu6": 6.0, "relu": None}
CHANNELS = 1  # Their axis.
SHUFFLED = (0, 2, 1, 3, 4)  # Axes b, groups, channels of each, h, w.


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
    # Quantisers find nodes by their names.
    node = helper.make_node(kind, inputs, [name], name=name, **attributes)
    self.nodes.append(node)
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

  def sum(self, terms: Sequence[str]) -> str:
    """Adds the sum of maps of one shape; returns its name."""
    return functools.reduce(lambda x, y: self.add("Add", x, y), terms)

  def mean(self, terms: Sequence[str]) -> str:
    """Adds the mean of maps of one shape; returns its name."""
    return self.add("Mul", self.sum(terms), self.weight(1 / len(terms)))

  def concatenate(self, parts: Sequence[str]) -> str:
    """Adds the concatenation of maps by channels; returns its name."""
    return self.add("Concat", *parts, axis=CHANNELS)

  def split(self, x: str, count: int, features: int) -> list[str]:
    """Adds equal parts of the channels of a map.

    Args:
      x: name of the map.
      count: number of parts.
      features: number of channels of the map.

    Returns:
      The names of the parts.
    """
    width, axis = features // count, self.integers(CHANNELS)
    ends = [self.integers(i * width) for i in range(count + 1)]
    return [
      self.add("Slice", x, start, end, axis)
      for start, end in itertools.pairwise(ends)
    ]

  def pad(
    self,
    x: str,
    *,
    top_left: int = 0,
    bottom: int = 0,
    right: int = 0,
    channels: int = 0,
  ) -> str:
    """Appends zeros to a map, or drops rows and columns; returns the name.

    Args:
      x: name of the map.
      top_left: rows and columns to add before the first; below 0, to drop.
      bottom, right: rows and columns to add after the last; below 0, to drop.
      channels: channels to add after the last.
    """
    before, after = (0, 0, top_left, top_left), (0, channels, bottom, right)
    return self.add("Pad", x, self.integers(*before, *after))

  def shuffle(self, x: str, groups: int, shape: Sequence[int]) -> str:
    """Interleaves groups of channels, as `nn.layers.channels` does.

    Args:
      x: name of the map.
      groups: number of groups.
      shape: (h, w, c) of the map.

    Returns:
      The name of the output.
    """
    height, width, features = shape
    size = self.integers(0, groups, features // groups, height, width)
    x = self.add("Transpose", self.add("Reshape", x, size), perm=SHUFFLED)
    return self.add("Reshape", x, self.integers(0, features, height, width))

  def average_cells(self, x: str, stride: int, shape: Sequence[int]) -> str:
    """Averages over cells of stride x stride pixels; returns the name.

    Args:
      x: name of the map.
      stride: side of a cell.
      shape: (h, w, c) of the map.
    """
    if stride == 1:
      return x
    # A window across the border is averaged over its pixels in the image.
    pads = [0, 0, -shape[0] % stride, -shape[1] % stride]
    window = dict(kernel_shape=[stride] * 2, strides=[stride] * 2, pads=pads)
    return self.add("AveragePool", x, **window)

  def pooled_shortcut(
    self, x: str, stride: int, shape: Sequence[int], features: int
  ) -> str:
    """Averages over cells, and appends channels of zeros; returns the name.

    Args:
      x: name of the map.
      stride: side of a cell.
      shape: (h, w, c) of the map.
      features: number of channels of the output, c or more.
    """
    x = self.average_cells(x, stride, shape)
    lacking = features - shape[-1]
    return self.pad(x, channels=lacking) if lacking else x

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
