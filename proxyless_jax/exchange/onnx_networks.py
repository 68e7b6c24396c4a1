"""ONNX: how the edges of a network are wired, a function per family.

The equations are those of `proxyless_jax.space.networks.tree` and `.cells`;
maps are f[b, c, h, w].
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from proxyless_jax.exchange.onnx_graph import Graph
from proxyless_jax.space import (
  Block,
  Cell,
  CellNetwork,
  Chain,
  Edge,
  Network,
  Path,
  Tree,
)

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
    "expected a chain, a tree or cells; register others by "
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
  halves = graph.split(y, len(block.branch_norms), block.conv.features_out)
  trees = _trees(graph, halves, block, run)
  sums = [
    graph.add("Add", run(tree, norm), half)
    for tree, norm, half in zip(trees, block.branch_norms, halves)
  ]
  y = run(run(graph.sum(sums), block.out_bottleneck), block.final_norm)
  first, width = block.in_bottleneck, block.final_norm.features_out
  shortcut = graph.pooled_shortcut(x, block.conv.stride, first.shape_in, width)
  return graph.add("Add", y, shortcut)


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
  return [graph.sum(nodes[i : i + count]) for i in range(0, len(nodes), count)]


@wire.register
def _(network: CellNetwork, graph: Graph, x: str, run: Run) -> str:
  x = functools.reduce(run, network.before, x)
  before = [x, x]
  for cell in network.cells:
    before = [before[1], _cell(graph, before, cell, run)]
  return functools.reduce(run, network.after, before[1])


def _cell(graph: Graph, before: list[str], cell: Cell, run: Run) -> str:
  def output(path: Path, states: list[str]) -> str:
    return functools.reduce(run, path.edges, states[path.source])

  states = [output(path, before) for path in cell.inputs]
  for paths in cell.nodes:
    states.append(graph.sum([output(path, states) for path in paths]))
  return graph.concatenate([output(path, states) for path in cell.outputs])
