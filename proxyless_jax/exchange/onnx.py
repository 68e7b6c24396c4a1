"""ONNX: an architecture as a graph that other runtimes run.

The graph is that of deployment: channels first inside, batch norm folded into
the convolution before it. Tracing the Linen module would not give it: there a
depthwise convolution is a sum of products on a CPU.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from proxyless_jax.exchange.onnx_tree import run_tree
from proxyless_jax.space import (
  AvgPool,
  Chain,
  Classifier,
  ConvBN,
  Edge,
  Identity,
  MaxPool,
  MBConv,
  Network,
  Norm,
  NormConv,
  NormSepConv,
  Op,
  PlainConv,
  Relu,
  Tree,
  Zero,
)
from proxyless_jax.space.checks import expect
from proxyless_jax.space.networks.network import check_network

OPSET = 17
INPUT, OUTPUT = "images", "logits"
SHUFFLED = (0, 2, 1, 3, 4)  # Axes b, groups, channels of each, h, w.
CEILINGS = {"relu6": 6.0, "relu": None}


class Graph:
  """Nodes and weights of a graph, as they are added."""

  def __init__(self):
    self.nodes: list = []
    self.weights: list = []

  def add(self, kind: str, *inputs: str, **attributes) -> str:
    """Adds a node; gives the name of its output."""
    from onnx import helper

    name = f"t{len(self.nodes)}"
    self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
    return name

  def weight(self, value, dtype=np.float32) -> str:
    """Adds an array; gives its name."""
    from onnx import numpy_helper

    name = f"w{len(self.weights)}"
    array = np.ascontiguousarray(value, dtype)
    self.weights.append(numpy_helper.from_array(array, name))
    return name

  def integers(self, *values: int) -> str:
    """Adds a vector of integers, such as a shape; gives its name."""
    return self.weight(values, np.int64)

  def conv(
    self,
    x: str,
    kernel,
    bias,
    *,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
  ) -> str:
    """A convolution with a kernel f[k, k, in, out], centred on each pixel."""
    k = kernel.shape[0]
    weights = [self.weight(np.transpose(kernel, (3, 2, 0, 1)))]
    weights += [] if bias is None else [self.weight(bias)]
    place = dict(pads=[dilation * (k // 2)] * 4, dilations=[dilation] * 2)
    attributes = dict(kernel_shape=[k, k], group=groups, **place)
    return self.add("Conv", x, *weights, strides=[stride] * 2, **attributes)

  def norm(self, x: str, norm, *, epsilon: float, relu: bool) -> str:
    """Batch norm alone, with ReLU where there is one."""
    scale, bias = (self.weight(v[:, None, None]) for v in fold(norm, epsilon))
    x = self.add("Add", self.add("Mul", x, scale), bias)
    return self.add("Relu", x) if relu else x

  def activate(self, x: str, activation: str) -> str:
    """'relu6', 'relu' or 'linear'."""
    if activation == "linear":
      return x
    ceiling = CEILINGS[activation]
    if ceiling is None:
      return self.add("Relu", x)
    return self.add("Clip", x, self.weight(0.0), self.weight(ceiling))

  def conv_norm(
    self, x: str, kernel, norm, *, epsilon: float, activation: str, **options
  ) -> str:
    """A convolution, the batch norm after it folded in, and an activation."""
    scale, bias = fold(norm, epsilon)
    kernel = np.asarray(kernel, np.float64) * scale
    return self.activate(self.conv(x, kernel, bias, **options), activation)


def to_onnx(
  network: Network, variables: Mapping[str, Any], *, batch: int = 1
) -> Any:
  """An architecture with its weights as an `onnx.ModelProto`.

  The model reads 'images' f32[batch, h, w, c], as the Linen module does, and
  gives 'logits' f32[batch, classes]; without a classifier, f32[batch, h', w',
  c'].

  Args:
    network: a chain or a tree network with one candidate per edge.
    variables: {'params', 'batch_stats'} of its module.
    batch: images at once.

  Raises:
    ImportError: the extra `onnx` is not installed.
    ValueError: a network or an operation that has no graph, or variables of
      another network.
  """
  try:
    from onnx import checker, helper
  except ImportError as error:
    raise ImportError(
      "ONNX models need the package onnx: install proxyless-jax[onnx]"
    ) from error
  _check(network, variables, batch)
  graph = Graph()
  x = graph.add("Transpose", INPUT, perm=[0, 3, 1, 2])
  run = functools.partial(_edge, graph, variables)
  if isinstance(network, Tree):
    x = run_tree(graph, x, network, run)
  else:
    x = functools.reduce(run, network.layers, x)
  last = network.layers[-1]
  shape = [batch, last.features_out]
  if not isinstance(last.op, Classifier):
    shape[1:] = last.shape_out
    x = graph.add("Transpose", x, perm=[0, 2, 3, 1])
  graph.nodes.append(helper.make_node("Identity", [x], [OUTPUT]))
  body = helper.make_graph(
    graph.nodes,
    "network",
    [_value(INPUT, [batch, *network.image_shape])],
    [_value(OUTPUT, shape)],
    graph.weights,
  )
  opsets = [helper.make_opsetid("", OPSET)]
  # The oldest format that has the opset: runtimes read those before their own.
  model = helper.make_model(body, opset_imports=opsets, ir_version=8)
  checker.check_model(model)
  return model


def _check(network: Network, variables, batch: int) -> None:
  check_network("network", network)
  if not isinstance(network, Chain | Tree):
    raise ValueError(
      f"to_onnx: expected a chain or a tree, got the family {network.family!r}"
    )
  positive = type(batch) is int and batch > 0
  expect(positive, "batch", batch, "a positive integer")


def _value(name: str, shape: list[int]):
  from onnx import TensorProto, helper

  return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _edge(graph: Graph, variables, x: str, edge: Edge) -> str:
  if isinstance(edge.op, Zero):
    return x if edge.shortcut else graph.add("Sub", x, x)
  params, stats = (
    _own(variables, collection, edge.name, edge.op.name)
    for collection in ("params", "batch_stats")
  )
  has_graph = convert.dispatch(type(edge.op)) != convert.dispatch(Op)
  if has_graph and not params and edge.op.parameters(edge):
    raise ValueError(
      f"variables have no parameters of {edge.op.name!r} on edge "
      f"{edge.name!r}: expected {{'params', 'batch_stats'}} of build(network); "
      "those of a space go through pj.inherit first"
    )
  y = convert(edge.op, edge, graph, x, _joined(params, stats))
  return graph.add("Add", x, y) if edge.shortcut else y


def _own(tree, *names: str):
  """What lies in nested dicts under some names; empty where nothing does."""
  for name in names:
    tree = tree.get(name, {}) if isinstance(tree, Mapping) else {}
  return tree


def _joined(params, stats) -> dict:
  """Parameters, with the statistics of each batch norm beside its own."""
  if not isinstance(params, Mapping):
    return np.asarray(params, np.float64)
  return {
    name: _joined(params.get(name, {}), {})
    if name not in stats
    else {**_joined(params[name], {}), **_joined(stats[name], {})}
    for name in params
  }


def fold(norm: Mapping[str, np.ndarray], epsilon: float):
  """Batch norm as y = x * scale + bias, f64[c] each."""
  scale = norm["scale"] / np.sqrt(norm["var"] + epsilon)
  return scale, norm["bias"] - norm["mean"] * scale


@functools.singledispatch
def convert(op: Op, edge: Edge, graph: Graph, x: str, weights: dict) -> str:
  """Adds an operation to a graph; register those of your own.

  Args:
    op, edge: which operation, and where.
    graph: to add to.
    x: name of its input, f32[b, c, h, w].
    weights: its parameters as f64, the statistics of a batch norm among them.

  Returns:
    The name of its output.
  """
  raise ValueError(
    f"edge {edge.name!r}: the operation {op.name!r} has no ONNX graph: "
    "register one by proxyless_jax.exchange.onnx.convert.register"
  )


@convert.register
def _(op: Identity, edge, graph, x, weights):
  del op, edge, weights
  return graph.add("Identity", x)


@convert.register
def _(op: Relu, edge, graph, x, weights):
  del op, edge, weights
  return graph.add("Relu", x)


@convert.register(MaxPool)
@convert.register(AvgPool)
def _(op, edge, graph, x, weights):
  del weights
  kind = "MaxPool" if isinstance(op, MaxPool) else "AveragePool"
  place = dict(kernel_shape=[op.kernel] * 2, pads=[op.kernel // 2] * 4)
  return graph.add(kind, x, strides=[edge.stride] * 2, **place)


@convert.register
def _(op: PlainConv, edge, graph, x, weights):
  del op
  return graph.conv(x, weights["conv"]["kernel"], None, stride=edge.stride)


@convert.register
def _(op: Norm, edge, graph, x, weights):
  del edge
  return graph.norm(x, weights["bn"], epsilon=op.epsilon, relu=op.relu)


@convert.register
def _(op: NormConv, edge, graph, x, weights):
  x = graph.norm(x, weights["bn"], epsilon=op.epsilon, relu=op.relu)
  options = dict(stride=edge.stride, groups=op.groups)
  x = graph.conv(x, weights["conv"]["kernel"], None, **options)
  if not op.shuffle:
    return x
  *size, features = edge.shape_out
  groups = graph.integers(0, op.groups, features // op.groups, *size)
  x = graph.add("Transpose", graph.add("Reshape", x, groups), perm=SHUFFLED)
  return graph.add("Reshape", x, graph.integers(0, features, *size))


@convert.register
def _(op: NormSepConv, edge, graph, x, weights):
  x = graph.norm(x, weights["bn"], epsilon=op.epsilon, relu=True)
  options = dict(stride=edge.stride, groups=edge.features_in)
  kernel = weights["depthwise"]
  x = graph.conv(x, kernel, None, dilation=op.dilation, **options)
  return graph.conv(x, weights["pointwise"]["kernel"], None)


@convert.register
def _(op: ConvBN, edge, graph, x, weights):
  kernel = weights["conv"]["kernel"]
  options = dict(activation=op.activation, stride=edge.stride)
  return graph.conv_norm(
    x, kernel, weights["bn"], epsilon=op.epsilon, **options
  )


@convert.register
def _(op: MBConv, edge, graph, x, weights):
  conv_norm = functools.partial(graph.conv_norm, epsilon=op.epsilon)
  if op.expands:
    kernel, norm = weights["expand"]["kernel"], weights["expand_bn"]
    x = conv_norm(x, kernel, norm, activation=op.activation)
  options = dict(stride=edge.stride, groups=op.hidden(edge))
  kernel, norm = weights["depthwise"], weights["depthwise_bn"]
  x = conv_norm(x, kernel, norm, activation=op.activation, **options)
  if op.squeeze:
    x = _excite(graph, x, weights["excite"])
  kernel, norm = weights["project"]["kernel"], weights["project_bn"]
  return conv_norm(x, kernel, norm, activation="linear")


def _excite(graph: Graph, x: str, weights: dict) -> str:
  means = graph.add("GlobalAveragePool", x)
  reduce, widen = weights["reduce"]["kernel"], weights["widen"]["kernel"]
  hidden = graph.conv(means, reduce, weights["reduce_bias"])
  scale = graph.conv(graph.add("Relu", hidden), widen, weights["widen_bias"])
  return graph.add("Mul", x, graph.add("Sigmoid", scale))


@convert.register
def _(op: Classifier, edge, graph, x, weights):
  del op, edge
  x = graph.add("Flatten", graph.add("GlobalAveragePool", x))
  kernel, bias = graph.weight(weights["kernel"]), graph.weight(weights["bias"])
  return graph.add("Gemm", x, kernel, bias)
