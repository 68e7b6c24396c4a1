"""CellNetwork: cells, each of which reads the outputs of the two before it.

    x_0, x_1 = inputs(the output of the cell before the last, of the last)
    x_{n+2}  = sum_p path_np(x_source)                     node n
    output   = concatenate_p(path_p(x_source))

(Zoph et al., CVPR 2018, sections 3 and 3.1.) Both inputs of the first cell are
the stem's output.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Self

from proxyless_jax.space.checks import check_tuple, expect
from proxyless_jax.space.edge import Edge, Size, optional
from proxyless_jax.space.networks.network import (
  Network,
  check_joint,
  check_momentum,
  check_names,
)


class Shape(NamedTuple):
  """Of a map: its height and width, and its channels."""

  size: Size
  features: int


@dataclasses.dataclass(frozen=True)
class Path:
  """Edges that follow one another, from a state of a cell.

  Attributes:
    source: index of the state: 0 and 1 are the inputs, then come the nodes.
    edges: edges with one operation each; none for an identity.
  """

  source: int
  edges: tuple[Edge, ...]

  def __post_init__(self) -> None:
    natural = type(self.source) is int and self.source >= 0
    expect(natural, "source", self.source, "an integer of 0 or more")
    check_tuple("edges", self.edges, Edge)
    for edge in self.edges:
      _ = edge.op
    for one, next_ in zip(self.edges, self.edges[1:]):
      check_joint(one, next_)

  def shape(self, states: list[Shape], where: str) -> Shape:
    """The shape of its output; a ValueError where it does not fit `states`."""
    known = self.source < len(states)
    expect(known, f"{where}: source", self.source, f"below {len(states)}")
    start = states[self.source]
    if not self.edges:
      return start
    first, last = self.edges[0], self.edges[-1]
    for field, value in zip(("size", "features_in"), start):
      expect(
        getattr(first, field) == value,
        f"edge {first.name!r}: {field}",
        getattr(first, field),
        f"{value}, as state {self.source} of {where} has",
      )
    return Shape(last.size_out, last.features_out)


@dataclasses.dataclass(frozen=True)
class Cell:
  """One cell.

  Attributes:
    inputs: two paths: from the output of the cell before the last (source 0),
      and from that of the last (source 1).
    nodes: paths that each node adds up.
    outputs: paths whose outputs are concatenated.
  """

  inputs: tuple[Path, ...]
  nodes: tuple[tuple[Path, ...], ...]
  outputs: tuple[Path, ...]

  def __post_init__(self) -> None:
    check_tuple("inputs", self.inputs, Path)
    two = [path.source for path in self.inputs] == [0, 1]
    expect(two, "inputs", self.inputs, "two paths, of sources 0 and 1")
    check_tuple("nodes", self.nodes, tuple)
    for paths in (*self.nodes, self.outputs):
      check_tuple("paths", paths, Path)
      expect(paths, "paths", paths, "one or more")

  @property
  def paths(self) -> tuple[Path, ...]:
    """All paths, in the order in which they run."""
    nodes = (path for paths in self.nodes for path in paths)
    return (*self.inputs, *nodes, *self.outputs)

  def shape(self, before: list[Shape], where: str) -> Shape:
    """The shape of its output; a ValueError where anything does not fit.

    Args:
      before: shapes of the outputs of the cell before the last and of the last.
      where: name of the cell, for errors.
    """
    states = [path.shape(before, f"{where} inputs") for path in self.inputs]
    for i, paths in enumerate(self.nodes):
      shapes = {path.shape(states, f"{where} node {i}") for path in paths}
      expect(len(shapes) == 1, f"{where} node {i}", shapes, "equal shapes")
      states.append(shapes.pop())
    parts = [path.shape(states, f"{where} outputs") for path in self.outputs]
    sizes = {part.size for part in parts}
    expect(len(sizes) == 1, f"{where} outputs", parts, "equal sizes")
    return Shape(sizes.pop(), sum(part.features for part in parts))


@dataclasses.dataclass(frozen=True)
class CellNetwork(Network):
  """A stem, cells, a head. It has no searched edges.

  Attributes:
    before: edges of the stem, which follow one another.
    cells: one or more cells.
    after: edges from the last cell's output to the logits.
    bn_momentum: see `Network`.
  """

  before: tuple[Edge, ...]
  cells: tuple[Cell, ...]
  after: tuple[Edge, ...]
  bn_momentum: float = optional(0.9)

  family = "cells"

  def __post_init__(self) -> None:
    for field, kind in (("before", Edge), ("cells", Cell), ("after", Edge)):
      check_tuple(field, getattr(self, field), kind)
      expect(getattr(self, field), field, (), "one or more")
    check_momentum(self.bn_momentum)
    check_names(self.layers)
    self._check_shapes()

  def _check_shapes(self) -> None:
    stem = Path(0, self.before).edges[-1]
    before = [Shape(stem.size_out, stem.features_out)] * 2
    for i, cell in enumerate(self.cells):
      before = [before[1], cell.shape(before, f"cells[{i}]")]
    Path(1, self.after).shape(before, "after")

  @property
  def edges(self) -> tuple[Edge, ...]:
    """None: nothing in cells is searched."""
    return ()

  @property
  def layers(self) -> tuple[Edge, ...]:
    paths = (path for cell in self.cells for path in cell.paths)
    cells = (edge for path in paths for edge in path.edges)
    return (*self.before, *cells, *self.after)

  def with_edges(self, edges: tuple[Edge, ...]) -> Self:
    expect(not edges, "edges", edges, "none: nothing in cells is searched")
    return self
