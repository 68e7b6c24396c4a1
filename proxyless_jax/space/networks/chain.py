"""Chain: a network whose edges follow one another."""

from __future__ import annotations

import dataclasses
from typing import Self

from proxyless_jax.space.checks import check_tuple
from proxyless_jax.space.edge import Edge, Op, Size, as_size, optional
from proxyless_jax.space.networks.network import (
  Network,
  check_joint,
  check_momentum,
  check_names,
)
from proxyless_jax.space.ops.mobile import Classifier


@dataclasses.dataclass(frozen=True)
class Chain(Network):
  """A chain of edges: fixed ones, searched ones, fixed ones.

  Attributes:
    before: edges with one operation each, such as the stem.
    edges: searched edges; `choose` takes one choice for each.
    after: edges with one operation each, such as head and classifier.
    bn_momentum: see `Network`.
  """

  before: tuple[Edge, ...]
  edges: tuple[Edge, ...]
  after: tuple[Edge, ...]
  bn_momentum: float = optional(0.9)

  family = "chain"

  def __post_init__(self) -> None:
    for field in ("before", "edges", "after"):
      check_tuple(field, getattr(self, field), Edge)
    check_momentum(self.bn_momentum)
    check_names(self.layers)
    for edge in (*self.before, *self.after):
      _ = edge.op
    for one, next_ in zip(self.layers, self.layers[1:]):
      check_joint(one, next_)

  @property
  def layers(self) -> tuple[Edge, ...]:
    return (*self.before, *self.edges, *self.after)

  @property
  def drops_paths(self) -> bool:
    return any(edge.shortcut for edge in self.layers)

  def with_edges(self, edges: tuple[Edge, ...]) -> Self:
    return dataclasses.replace(self, edges=edges)


class ChainBuilder:
  """Follows width and size through the edges of a chain as they are added.

  Attributes:
    features, size: width and size of the last edge's output; before the first
      edge, channels and size of the images.
  """

  def __init__(self, features: int, size: Size) -> None:
    self.features, self.size = features, as_size("image_size", size)

  def add(
    self,
    name: str,
    ops: tuple[Op, ...],
    features_out: int,
    stride: int = 1,
    shortcut: bool = False,
  ) -> Edge:
    """The edge that follows the last one: see `Edge` for the arguments."""
    edge = Edge(
      name, ops, self.features, features_out, stride, self.size, shortcut
    )
    self.features, self.size = features_out, edge.size_out
    return edge

  def add_classifier(self, classes: int) -> Edge:
    """The classifier that follows the last edge."""
    return self.add("classifier", (Classifier(),), classes)
