"""ONNX: the graphs of whole blocks, which published networks are made of."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np

from proxyless_jax.exchange.onnx_graph import Graph
from proxyless_jax.exchange.onnx_ops import Weights, convert
from proxyless_jax.space import Edge, ops
from proxyless_jax.space.ops.path_level import TREE_CELL_A, Branches

EPSILON = 1e-5  # Of all their batch norms.


@convert.register
def _(
  op: ops.BasicBlock, edge: Edge, graph: Graph, x: str, weights: Weights
) -> str:
  y = _conv_norm(graph, x, weights, "conv1", "bn1", "relu", edge.stride)
  y = _conv_norm(graph, y, weights, "conv2", "bn2", "linear")
  if op.projects(edge):
    names = "shortcut", "shortcut_bn"
    x = _conv_norm(graph, x, weights, *names, "linear", edge.stride)
  return graph.add("Relu", graph.add("Add", x, y))


@convert.register
def _(
  op: ops.ShuffleUnit, edge: Edge, graph: Graph, x: str, weights: Weights
) -> str:
  def pointwise(x: str, name: str) -> str:
    return _conv_norm(graph, x, weights, name, f"{name}_bn", "relu")

  def depthwise(x: str, name: str) -> str:
    kernel, norm = weights[name], weights[f"{name}_bn"]
    options = dict(stride=edge.stride, groups=kernel.shape[-1])
    return graph.conv_norm(
      x, kernel, norm, epsilon=EPSILON, activation="linear", **options
    )

  if edge.stride == 1:
    first, second = graph.split(x, 2, edge.features_in)
  else:
    first = pointwise(depthwise(x, "first_depthwise"), "first_project")
    second = x
  second = depthwise(pointwise(second, "second_expand"), "second_depthwise")
  second = pointwise(second, "second_project")
  joined = graph.concatenate([first, second])
  return graph.shuffle(joined, 2, edge.shape_out)


@convert.register
def _(
  op: ops.DenseLayer, edge: Edge, graph: Graph, x: str, weights: Weights
) -> str:
  del op, edge
  y = graph.norm(x, weights["reduce_bn"], epsilon=EPSILON, relu=True)
  y = _conv_norm(graph, y, weights, "reduce", "grow_bn", "relu")
  y = graph.conv(y, weights["grow"]["kernel"], None)
  return graph.concatenate([x, y])


@convert.register
def _(
  op: ops.DenseTransition, edge: Edge, graph: Graph, x: str, weights: Weights
) -> str:
  del op
  x = graph.norm(x, weights["bn"], epsilon=EPSILON, relu=True)
  x = graph.conv(x, weights["conv"]["kernel"], None)
  return graph.average_cells(x, edge.stride, edge.shape_in)


@convert.register
def _(
  op: ops.PyramidBlock, edge: Edge, graph: Graph, x: str, weights: Weights
) -> str:
  y = graph.norm(x, weights["bn"], epsilon=EPSILON, relu=False)
  y = _conv_norm(graph, y, weights, "reduce", "reduce_bn", "relu")
  y = _conv_norm(graph, y, weights, "conv", "conv_bn", "relu", edge.stride)
  # The mean over the draws of ShakeDrop.
  last = {
    **weights,
    "widen_bn": _scaled(weights["widen_bn"], float(op.survival)),
  }
  y = _conv_norm(graph, y, last, "widen", "widen_bn", "linear")
  return graph.add("Add", _shortcut(graph, x, edge), y)


@convert.register
def _(
  op: ops.ShakeBlock, edge: Edge, graph: Graph, x: str, weights: Weights
) -> str:
  del op
  active = graph.add("Relu", x)
  # The mean over the draws of Shake-Shake is that of both branches.
  branches = [
    _shake_branch(graph, active, edge, weights[name])
    for name in ("branch1", "branch2")
  ]
  if edge.features_in != edge.features_out:
    x = _shifted_shortcut(graph, active, edge, weights["shortcut"])
  return graph.sum([x, *branches])


def _shake_branch(
  graph: Graph, active: str, edge: Edge, weights: Weights
) -> str:
  """Half of the output of a branch."""
  y = _conv_norm(graph, active, weights, "conv1", "bn1", "relu", edge.stride)
  halved = {**weights, "bn2": _scaled(weights["bn2"], 0.5)}
  return _conv_norm(graph, y, halved, "conv2", "bn2", "linear")


def _shifted_shortcut(
  graph: Graph, active: str, edge: Edge, weights: Weights
) -> str:
  """Two convolutions side by side, of a map and of it shifted by a pixel."""
  half = edge.features_out // 2
  shifted = graph.pad(active, top_left=1, bottom=-1, right=-1)
  outputs = []
  for name, seen, part in (
    ("conv1", active, slice(None, half)),
    ("conv2", shifted, slice(half, None)),
  ):
    norm = {field: value[part] for field, value in weights["bn"].items()}
    of_part = {name: weights[name], "bn": norm}
    outputs.append(
      _conv_norm(graph, seen, of_part, name, "bn", "linear", edge.stride)
    )
  return graph.concatenate(outputs)


@convert.register
def _(
  op: ops.TreeCellBlock, edge: Edge, graph: Graph, x: str, weights: Weights
) -> str:
  run = functools.partial(_run, graph, weights)
  first, last, norm = op.ends(edge)
  y = run(x, first)
  trees = [
    _node(graph, run, node, root, run(y, root))
    for node, root in zip(TREE_CELL_A, op.roots(edge))
  ]
  y = run(run(graph.mean(trees), last), norm)
  return graph.add("Add", _shortcut(graph, x, edge), y)


def _run(graph: Graph, weights: Weights, x: str, edge: Edge) -> str:
  """The output of an operation inside a block."""
  return convert(edge.op, edge, graph, x, weights.get(edge.name, {}))


def _node(
  graph: Graph,
  run: Callable[[str, Edge], str],
  node: Branches,
  above: Edge,
  x: str,
) -> str:
  """The output of a node of a tree cell, and of all nodes below it."""
  count, concat = len(node.branches), node.merge == "concat"
  parts = graph.split(x, count, above.features_out) if concat else [x] * count
  outputs = []
  for edge, part, (_, below) in zip(node.edges(above), parts, node.branches):
    y = run(part, edge)
    outputs.append(_node(graph, run, below, edge, y) if below else y)
  return graph.concatenate(outputs) if concat else graph.mean(outputs)


def _shortcut(graph: Graph, x: str, edge: Edge) -> str:
  return graph.pooled_shortcut(x, edge.stride, edge.shape_in, edge.features_out)


def _conv_norm(
  graph: Graph,
  x: str,
  weights: Weights,
  conv: str,
  norm: str,
  activation: str,
  stride: int = 1,
) -> str:
  """A convolution and the batch norm after it, by the names of both."""
  return graph.conv_norm(
    x,
    weights[conv]["kernel"],
    weights[norm],
    epsilon=EPSILON,
    activation=activation,
    stride=stride,
  )


def _scaled(
  norm: Mapping[str, np.ndarray], factor: float
) -> dict[str, np.ndarray]:
  """A batch norm whose output is multiplied by a factor."""
  of_output = {name: factor * norm[name] for name in ("scale", "bias")}
  return {**norm, **of_output}
