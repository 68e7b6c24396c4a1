"""ONNX: the graph of each operation.

`convert` is a `functools.singledispatch` on the type of the operation; one of
your own registers a function of the same arguments.
"""

from __future__ import annotations

import functools
from typing import Any

from proxyless_jax.exchange.onnx_graph import Graph
from proxyless_jax.space import Edge, Op, ops

# Parameters of an operation by name, f64, and those of parts in dicts inside.
Weights = dict[str, Any]


@functools.singledispatch
def convert(op: Op, edge: Edge, graph: Graph, x: str, weights: Weights) -> str:
  """Adds an operation to a graph; register those of your own.

  Args:
    op: operation to add.
    edge: edge of the operation.
    graph: graph to add to.
    x: name of the input, f32[b, c, h, w].
    weights: parameters of the operation as f64, with the running statistics of
      each batch norm beside its parameters.

  Returns:
    The name of the output.

  Raises:
    ValueError: the operation's type is not registered.
  """
  raise ValueError(
    f"edge {edge.name!r}: the operation {op.name!r} has no ONNX graph: "
    "register one by proxyless_jax.exchange.onnx_ops.convert.register"
  )


@convert.register
def _(
  op: ops.Identity, edge: Edge, graph: Graph, x: str, weights: Weights
) -> str:
  del op, edge, weights
  return graph.add("Identity", x)


@convert.register
def _(op: ops.Relu, edge: Edge, graph: Graph, x: str, weights: Weights) -> str:
  del op, edge, weights
  return graph.add("Relu", x)


@convert.register
def _(
  op: ops.MaxPool, edge: Edge, graph: Graph, x: str, weights: Weights
) -> str:
  del weights
  return _pool("MaxPool", op.kernel, edge, graph, x)


@convert.register
def _(
  op: ops.AvgPool, edge: Edge, graph: Graph, x: str, weights: Weights
) -> str:
  del weights
  return _pool("AveragePool", op.kernel, edge, graph, x)


def _pool(kind: str, kernel: int, edge: Edge, graph: Graph, x: str) -> str:
  window = dict(kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4)
  return graph.add(kind, x, strides=[edge.stride] * 2, **window)


@convert.register
def _(
  op: ops.PlainConv, edge: Edge, graph: Graph, x: str, weights: Weights
) -> str:
  del op
  return graph.conv(x, weights["conv"]["kernel"], None, stride=edge.stride)


@convert.register
def _(op: ops.Norm, edge: Edge, graph: Graph, x: str, weights: Weights) -> str:
  del edge
  return graph.norm(x, weights["bn"], epsilon=op.epsilon, relu=op.relu)


@convert.register
def _(
  op: ops.NormConv, edge: Edge, graph: Graph, x: str, weights: Weights
) -> str:
  x = graph.norm(x, weights["bn"], epsilon=op.epsilon, relu=op.relu)
  options = dict(stride=edge.stride, groups=op.groups)
  x = graph.conv(x, weights["conv"]["kernel"], None, **options)
  return graph.shuffle(x, op.groups, edge.shape_out) if op.shuffle else x


@convert.register
def _(
  op: ops.NormSepConv, edge: Edge, graph: Graph, x: str, weights: Weights
) -> str:
  x = graph.norm(x, weights["bn"], epsilon=op.epsilon, relu=True)
  options = dict(stride=edge.stride, groups=edge.features_in)
  kernel = weights["depthwise"]
  x = graph.conv(x, kernel, None, dilation=op.dilation, **options)
  return graph.conv(x, weights["pointwise"]["kernel"], None)


@convert.register
def _(
  op: ops.ConvBN, edge: Edge, graph: Graph, x: str, weights: Weights
) -> str:
  kernel = weights["conv"]["kernel"]
  return graph.conv_norm(
    x,
    kernel,
    weights["bn"],
    epsilon=op.epsilon,
    activation=op.activation,
    stride=edge.stride,
  )


@convert.register
def _(
  op: ops.MBConv, edge: Edge, graph: Graph, x: str, weights: Weights
) -> str:
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


def _excite(graph: Graph, x: str, weights: Weights) -> str:
  means = graph.add("GlobalAveragePool", x)
  reduce, widen = weights["reduce"]["kernel"], weights["widen"]["kernel"]
  hidden = graph.conv(means, reduce, weights["reduce_bias"])
  scale = graph.conv(graph.add("Relu", hidden), widen, weights["widen_bias"])
  return graph.add("Mul", x, graph.add("Sigmoid", scale))


@convert.register
def _(
  op: ops.Classifier, edge: Edge, graph: Graph, x: str, weights: Weights
) -> str:
  del op, edge
  x = graph.add("Flatten", graph.add("GlobalAveragePool", x))
  kernel, bias = graph.weight(weights["kernel"]), graph.weight(weights["bias"])
  return graph.add("Gemm", x, kernel, bias)
