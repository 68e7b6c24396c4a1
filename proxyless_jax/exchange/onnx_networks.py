"""ONNX: how the edges of a network are wired, a function per family.

The equations of a tree are those of `proxyless_jax.space.networks.tree`; maps
are f[b, c, h, w].
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

from proxyless_jax.exchange.onnx_graph import Graph
from proxyless_jax.space import Block, Chain, Edge, Network, Tree

CHANNELS = 1  # Their axis.
# Adds an edge: (name of its input, edge) -> name of its output.
Run = Callable[[str, Edge], str]


@functools.singledispatch
def wire(network: Network, graph: Graph, x: str, run: Run) -> str:
  """Adds a network to a graph; register families of your own.

  Args:
    network: an architecture.
    graph: graph to add to.
    x: name of the images, f32[b, c, h, w].
    run: function that adds an edge: (name of its input, edge) -> name of its
      output.

  Returns:
    The name of the output.

  Raises:
    ValueError: the network's family is not registered.
  """
  del graph, x, run
  raise ValueError(
    f"to_onnx: networks of the family {network.family!r} have no ONNX graph: "
    "expected a chain or a tree; register others by "
    "proxyless_jax.exchange.onnx_networks.wire.register"
  )


@wire.register
def _(network: Chain, graph: Graph, x: str, run: Run) -> str:
  del graph
  return functools.reduce(run, network.layers, x)


@wire.register
def _(network: Tree, graph: Graph, x: str, run: Run) -> str:
  x = functools.reduce(run, network.before, x)
  for block in network.blocks:
    x = _block(graph, x, block, run)
  return functools.reduce(run, network.after, x)


def _block(graph: Graph, x: str, block: Block, run: Run) -> str:
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


def _trees(
  graph: Graph, halves: list[str], block: Block, run: Run
) -> list[str]:
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
    # A window across the border is averaged over its pixels in the image.
    pads = [0, 0, -height % stride, -width % stride]
    window = dict(kernel_shape=[stride] * 2, strides=[stride] * 2, pads=pads)
    x = graph.add("AveragePool", x, **window)
  lacking = block.final_norm.features_out - first.features_in
  if lacking:
    x = graph.add("Pad", x, graph.integers(0, 0, 0, 0, 0, lacking, 0, 0))
  return x
