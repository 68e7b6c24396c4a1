"""ONNX: how the blocks of a tree network are wired.

The equations are those of `proxyless_jax.space.networks.tree`; maps are
f[b, c, h, w].
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxyless_jax.space import Block, Edge, Tree

if TYPE_CHECKING:
  from proxyless_jax.exchange.onnx import Graph

CHANNELS = 1  # Their axis.


def run_tree(
  graph: Graph, x: str, network: Tree, run: Callable[[str, Edge], str]
) -> str:
  """Adds a network to a graph; gives the name of its output.

  Args:
    graph: to add to.
    x: name of the images, f32[b, c, h, w].
    network: an architecture.
    run: adds an edge: (name of its input, edge) -> name of its output.
  """
  for edge in network.before:
    x = run(x, edge)
  for block in network.blocks:
    x = _block(graph, x, block, run)
  for edge in network.after:
    x = run(x, edge)
  return x


def _block(graph: Graph, x: str, block: Block, run: Callable) -> str:
  y = run(run(x, block.in_bottleneck), block.conv)
  halves = _parts(graph, y, len(block.branch_norms), block.conv.features_out)
  trees = _trees(graph, halves, block, run)
  sums = [
    graph.add("Add", run(tree, norm), half)
    for tree, norm, half in zip(trees, block.branch_norms, halves)
  ]
  y = run(run(_sum(graph, sums), block.out_bottleneck), block.final_norm)
  return graph.add("Add", y, _shortcut(graph, x, block))


def _parts(graph: Graph, y: str, count: int, features: int) -> list[str]:
  """Equal parts of the channels."""
  width, axis = features // count, graph.integers(CHANNELS)
  ends = [graph.integers(i * width) for i in range(count + 1)]
  return [
    graph.add("Slice", y, start, end, axis)
    for start, end in itertools.pairwise(ends)
  ]


def _trees(graph: Graph, halves: list, block: Block, run: Callable) -> list:
  """The output of the tree of each half."""
  nodes = halves
  for level in block.levels:
    nodes = [
      run(nodes[i // block.branches], edge) for i, edge in enumerate(level)
    ]
  count = len(nodes) // len(halves)
  return [
    _sum(graph, nodes[i : i + count]) for i in range(0, len(nodes), count)
  ]


def _sum(graph: Graph, nodes: list[str]) -> str:
  first, *others = nodes
  for other in others:
    first = graph.add("Add", first, other)
  return first


def _shortcut(graph: Graph, x: str, block: Block) -> str:
  """Averages over cells, and appends channels of zeros."""
  first, stride = block.in_bottleneck, block.conv.stride
  if stride > 1:
    height, width, _ = first.shape_in
    # A cell that lies across the rim is averaged over what the image has of it.
    pads = [0, 0, -height % stride, -width % stride]
    place = dict(kernel_shape=[stride] * 2, strides=[stride] * 2, pads=pads)
    x = graph.add("AveragePool", x, **place)
  lacking = block.final_norm.features_out - first.features_in
  if lacking:
    x = graph.add("Pad", x, graph.integers(0, 0, 0, 0, 0, lacking, 0, 0))
  return x
