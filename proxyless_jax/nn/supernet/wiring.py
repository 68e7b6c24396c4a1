"""Wirings: from where mixed edges read, and where their outputs go.

A `Line` is a chain of edges, each with its shortcut where they have one. A
`Graph` is any acyclic one: a node is the sum of the edges that lead to it.

Both say it for the forward loop over edges, whose carry holds what later edges
read, and for the backward loop, whose carry holds those arrays' gradients.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from proxyless_jax.space.networks.tree import EdgeGraph


@dataclasses.dataclass(frozen=True)
class Line:
  """Each edge reads what the one before it gives.

  Attributes:
    shortcut: whether each edge adds its input to its output.
  """

  shortcut: bool

  def places(self) -> None:
    """What the loops need to know of each edge: nothing."""

  def begin(self, x):
    return x

  def read(self, carry, place):
    del place
    return carry

  def write(self, carry, place, y):
    del place
    return carry + y if self.shortcut else y

  def end(self, carry):
    return carry

  def save(self, carry, inputs):
    """For the backward pass: the inputs of the edges, one after the other."""
    del carry
    return inputs

  def saved_of(self, saved, i, place):
    """The input of edge i."""
    del place
    return lax.dynamic_index_in_dim(saved, i, keepdims=False)

  def begin_back(self, dy):
    return dy

  def read_back(self, carry, place):
    del place
    return carry

  def write_back(self, carry, place, dx):
    del place
    return carry + dx if self.shortcut else dx

  def end_back(self, carry):
    return carry


class Place(NamedTuple):
  """Nodes of an edge, i32[]."""

  source: jax.Array
  target: jax.Array


@dataclasses.dataclass(frozen=True)
class Graph:
  """Edges between the nodes of a graph.

  The backward pass needs one array for each node that edges read, however many
  edges there are.

  Attributes:
    edges: nodes that each edge reads and leads to.
  """

  edges: EdgeGraph

  def places(self) -> Place:
    return Place(
      jnp.array(self.edges.sources, jnp.int32),
      jnp.array(self.edges.targets, jnp.int32),
    )

  def begin(self, x):
    """f[inputs, ...] -> all nodes f[inputs + inner + outputs, ...]."""
    more = (self.edges.inner + self.edges.outputs, *x.shape[1:])
    return jnp.concatenate([x, jnp.zeros(more, x.dtype)])

  def read(self, carry, place: Place):
    return lax.dynamic_index_in_dim(carry, place.source, keepdims=False)

  def write(self, carry, place: Place, y):
    return _add_to(carry, place.target, y)

  def end(self, carry):
    """f[outputs, ...]."""
    return carry[self.edges.read :]

  def save(self, carry, inputs):
    del inputs
    return carry[: self.edges.read]

  def saved_of(self, saved, i, place: Place):
    del i
    return lax.dynamic_index_in_dim(saved, place.source, keepdims=False)

  def begin_back(self, dy):
    more = (self.edges.read, *dy.shape[1:])
    return jnp.concatenate([jnp.zeros(more, dy.dtype), dy])

  def read_back(self, carry, place: Place):
    return lax.dynamic_index_in_dim(carry, place.target, keepdims=False)

  def write_back(self, carry, place: Place, dx):
    return _add_to(carry, place.source, dx)

  def end_back(self, carry):
    return carry[: self.edges.inputs]


def _add_to(nodes, i, y):
  old = lax.dynamic_index_in_dim(nodes, i)
  return lax.dynamic_update_index_in_dim(nodes, old + y[None], i, 0)
