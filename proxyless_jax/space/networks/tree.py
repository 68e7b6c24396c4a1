"""Tree: PyramidNets with trees, the family of ProxylessNAS's CIFAR-10 network.

Cai, Zhu, Han, ICLR 2019, section 4.1. A residual bottleneck block whose 3x3
convolution is followed by trees, one for each half of its channels:

    y      = conv(in_bottleneck(x))              in groups, one for each half,
                                                 and shuffled over them
    y_h    = branch_norm_h(tree_h(y_h)) + y_h    for each half h of y's channels
    block  = final_norm(out_bottleneck(sum_h y_h)) + shortcut(x)

A node of a tree passes its input to each of its edges, and adds their outputs:
so a tree is the sum of its lowest edges. The shortcut pools where the block has
a stride, and appends zeros for the channels that x lacks.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Self

from proxyless_jax.space.checks import check_tuple, expect
from proxyless_jax.space.edge import Edge, optional
from proxyless_jax.space.networks.network import (
  Network,
  check_joint,
  check_momentum,
  check_names,
)


@dataclasses.dataclass(frozen=True)
class Block:
  """A bottleneck block with a tree for each part of its channels.

  Attributes:
    in_bottleneck: 1x1 convolution to the block's width.
    conv: 3x3 convolution in groups to the width of all halves; has the block's
      stride, and the channel shuffle where there is one.
    edges: searched edges, level by level from the top; in a level, those of the
      first half first. Edge i of a level lies below edge i // branches of the
      level above it.
    branch_norms: batch norm of each half.
    out_bottleneck: 1x1 convolution.
    final_norm: batch norm before the shortcut is added.
    branches: number of edges below each node.
  """

  in_bottleneck: Edge
  conv: Edge
  edges: tuple[Edge, ...]
  branch_norms: tuple[Edge, ...]
  out_bottleneck: Edge
  final_norm: Edge
  branches: int

  def __post_init__(self) -> None:
    for field in ("edges", "branch_norms"):
      check_tuple(field, getattr(self, field), Edge)
    for field in ("in_bottleneck", "conv", "out_bottleneck", "final_norm"):
      value = getattr(self, field)
      expect(isinstance(value, Edge), field, value, "an edge")
    positive = type(self.branches) is int and self.branches > 0
    expect(positive, "branches", self.branches, "a positive integer")
    expect(self.branch_norms, "branch_norms", (), "one or more edges")
    for edge in (self.in_bottleneck, self.conv, *self.branch_norms):
      _ = edge.op
    _ = self.out_bottleneck.op, self.final_norm.op
    self._check_levels()
    self._check_widths()
    fits = self.in_bottleneck.features_in <= self.final_norm.features_out
    if not fits or self.in_bottleneck.stride > 1:
      raise ValueError(
        f"edge {self.in_bottleneck.name!r}: expected stride 1 and no more "
        f"than the block's {self.final_norm.features_out} channels, since its "
        f"shortcut drops none; got stride {self.in_bottleneck.stride} and "
        f"{self.in_bottleneck.features_in} channels"
      )

  def _check_levels(self) -> None:
    count, nodes = 0, len(self.branch_norms)
    while count < len(self.edges) or not count:
      nodes *= self.branches
      count += nodes
    expected = f"whole levels of {self.branches} below each node"
    expect(count == len(self.edges), "edges", len(self.edges), expected)

  def _check_widths(self) -> None:
    halves = len(self.branch_norms)
    whole, one = self.conv.features_out, self.branch_norms[0]
    if whole != halves * one.features_in:
      raise ValueError(
        f"edge {self.conv.name!r}: features_out = {whole}: expected "
        f"{halves * one.features_in}, the width of all branch norms"
      )
    half = dataclasses.replace(
      one, name=self.conv.name, size=self.conv.size_out
    )
    for edge in (*self.edges, *self.branch_norms):
      check_joint(half, edge)
      if not edge.keeps_shape or edge.shortcut:
        raise ValueError(
          f"edge {edge.name!r}: expected stride 1, equal widths and no "
          "shortcut in a tree"
        )
    check_joint(self.in_bottleneck, self.conv)
    check_joint(one, self.out_bottleneck)
    check_joint(self.out_bottleneck, self.final_norm)

  @property
  def layers(self) -> tuple[Edge, ...]:
    """All edges, in the order in which they run."""
    return (
      *(self.in_bottleneck, self.conv),
      *(*self.edges, *self.branch_norms),
      *(self.out_bottleneck, self.final_norm),
    )

  @property
  def levels(self) -> tuple[tuple[Edge, ...], ...]:
    """The searched edges of each level."""
    levels, first, nodes = [], 0, len(self.branch_norms)
    while first < len(self.edges):
      nodes *= self.branches
      levels.append(self.edges[first : first + nodes])
      first += nodes
    return tuple(levels)


@dataclasses.dataclass(frozen=True)
class Tree(Network):
  """A PyramidNet with trees.

  Attributes:
    before: edges with one operation each: the stem.
    blocks: blocks in the order in which they run.
    after: edges with one operation each: norm and classifier.
    bn_momentum: see `Network`.
  """

  before: tuple[Edge, ...]
  blocks: tuple[Block, ...]
  after: tuple[Edge, ...]
  bn_momentum: float = optional(0.9)

  family = "tree"

  def __post_init__(self) -> None:
    check_tuple("before", self.before, Edge)
    check_tuple("blocks", self.blocks, Block)
    check_tuple("after", self.after, Edge)
    check_momentum(self.bn_momentum)
    expect(self.before, "before", (), "one or more edges")
    expect(self.after, "after", (), "one or more edges")
    check_names(self.layers)
    for edge in (*self.before, *self.after):
      _ = edge.op
    ends = [(edge, edge) for edge in self.before]
    ends += [(block.in_bottleneck, block.final_norm) for block in self.blocks]
    ends += [(edge, edge) for edge in self.after]
    for (_, last), (first, _) in itertools.pairwise(ends):
      check_joint(last, first)

  @property
  def edges(self) -> tuple[Edge, ...]:
    """The searched edges of all blocks."""
    return tuple(edge for block in self.blocks for edge in block.edges)

  @property
  def layers(self) -> tuple[Edge, ...]:
    middle = (edge for block in self.blocks for edge in block.layers)
    return (*self.before, *middle, *self.after)

  def with_edges(self, edges: tuple[Edge, ...]) -> Self:
    rest = iter(edges)
    blocks = tuple(
      dataclasses.replace(
        block, edges=tuple(itertools.islice(rest, len(block.edges)))
      )
      for block in self.blocks
    )
    return dataclasses.replace(self, blocks=blocks)


@dataclasses.dataclass(frozen=True)
class EdgeGraph:
  """Edges between numbered nodes: inputs first, then inner ones, then outputs.

  A node is the sum of the outputs of the edges that lead to it.

  Attributes:
    inputs, inner, outputs: number of nodes of each kind.
    sources, targets: node that each edge reads, and node that it leads to. An
      edge reads no node that it, or an edge after it, leads to.
  """

  inputs: int
  inner: int
  outputs: int
  sources: tuple[int, ...]
  targets: tuple[int, ...]

  @property
  def read(self) -> int:
    """Number of nodes that edges read: all but the outputs."""
    return self.inputs + self.inner

  @property
  def nodes(self) -> int:
    """Number of all nodes."""
    return self.read + self.outputs


def tree_graph(trees: int, branches: int, count: int) -> EdgeGraph:
  """The graph of trees of equal levels, each with one input and one output.

  Args:
    trees: number of trees.
    branches: number of edges below each node.
    count: number of edges of all trees, level by level from the top; in a
      level, those of the first tree first.
  """
  sources: list[int] = []
  targets: list[int] = []
  above, nodes = range(trees), trees
  while True:
    level = len(above) * branches
    sources += [above[i // branches] for i in range(level)]
    if len(sources) >= count:
      break
    above = range(nodes, nodes + level)
    nodes += level
    targets += above
  targets += [nodes + i * trees // level for i in range(level)]
  return EdgeGraph(trees, nodes - trees, trees, tuple(sources), tuple(targets))
