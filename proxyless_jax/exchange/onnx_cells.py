"""ONNX: the graphs of the operations of cells (`space.ops.cell`)."""

from __future__ import annotations

from proxyless_jax.exchange.onnx_graph import Graph
from proxyless_jax.exchange.onnx_ops import Weights, convert
from proxyless_jax.space import Edge, ops


@convert.register
def _(
  op: ops.CellConv, edge: Edge, graph: Graph, x: str, weights: Weights
) -> str:
  return graph.conv_norm(
    graph.add("Relu", x) if op.relu else x,
    weights["conv"]["kernel"],
    weights["bn"],
    epsilon=op.epsilon,
    activation="linear",
    stride=edge.stride,
  )


@convert.register
def _(
  op: ops.SepConv, edge: Edge, graph: Graph, x: str, weights: Weights
) -> str:
  options = dict(groups=edge.features_in, dilation=op.dilation)
  x = graph.add("Relu", x)
  x = graph.conv(x, weights["depthwise"], None, stride=edge.stride, **options)
  return graph.conv_norm(
    x,
    weights["pointwise"]["kernel"],
    weights["bn"],
    epsilon=op.epsilon,
    activation="linear",
  )


@convert.register
def _(
  op: ops.FactorizedReduce, edge: Edge, graph: Graph, x: str, weights: Weights
) -> str:
  x = graph.add("Relu", x) if op.relu else x
  half = edge.features_out // 2
  height, width, _ = edge.shape_in
  # The second of the last two pixels is outside where the size is odd.
  shifted = graph.pad(x, top_left=-1, bottom=height % 2, right=width % 2)
  parts = (
    ("even", x, slice(None, half)),
    ("odd", shifted, slice(half, None)),
  )
  return graph.concatenate(
    [
      graph.conv_norm(
        seen,
        weights[name]["kernel"],
        {field: value[part] for field, value in weights["bn"].items()},
        epsilon=op.epsilon,
        activation="linear",
        stride=2,
      )
      for name, seen, part in parts
    ]
  )


@convert.register
def _(
  op: ops.BlockMaxPool, edge: Edge, graph: Graph, x: str, weights: Weights
) -> str:
  del op, weights
  height, width, _ = edge.shape_in
  window = dict(kernel_shape=[2, 2], strides=[2, 2])
  return graph.add("MaxPool", x, pads=[0, 0, height % 2, width % 2], **window)
