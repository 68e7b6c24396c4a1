"""Wirings: what mixed edges read, and where their outputs go.

A `Line` is a chain of edges, with a shortcut beside each or beside none. A
`Graph` is any acyclic graph, whose nodes are sums of the edges that lead to
them.

A wiring serves two loops: the forward loop over edges, whose carry holds what
later edges read, and the backward loop, whose carry holds the gradients of
those arrays. Each has a `begin`, a read and a write for every edge, and an
`end`. `save` picks what the backward loop needs of the forward one.
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

  def ends(self) -> None:
    """What tells the edges apart for the loops: nothing, in a line."""

  def begin(self, x):
    return x

  def read(self, carry, ends):
    del ends
    return carry

  def write(self, carry, ends, y):
    del ends
    return carry + y if self.shortcut else y

  def end(self, carry):
    return carry

  def save(self, carry, inputs):
    """For the backward pass: the inputs of the edges, one after the other."""
    del carry
    return inputs

  def saved_of(self, saved, i, ends):
    """The input of edge i."""
    del ends
    return lax.dynamic_index_in_dim(saved, i, keepdims=False)

  def begin_back(self, dy):
    return dy

  def read_back(self, carry, ends):
    del ends
    return carry

  def write_back(self, carry, ends, dx):
    del ends
    return carry + dx if self.shortcut else dx

  def end_back(self, carry):
    return carry


class Ends(NamedTuple):
  """The nodes of an edge.

  Attributes:
    source: i32[], node that the edge reads.
    target: i32[], node that it leads to.
  """

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

  def ends(self) -> Ends:
    """The nodes of all edges: i32[edges] each."""
    return Ends(
      jnp.array(self.edges.sources, jnp.int32),
      jnp.array(self.edges.targets, jnp.int32),
    )

  def begin(self, x):
    """f[inputs, ...] -> all nodes f[inputs + inner + outputs, ...]."""
    more = (self.edges.inner + self.edges.outputs, *x.shape[1:])
    return jnp.concatenate([x, jnp.zeros(more, x.dtype)])

  def read(self, carry, ends: Ends):
    return lax.dynamic_index_in_dim(carry, ends.source, keepdims=False)

  def write(self, carry, ends: Ends, y):
    return _add_to(carry, ends.target, y)

  def end(self, carry):
    """f[outputs, ...]."""
    return carry[self.edges.read :]

  def save(self, carry, inputs):
    del inputs
    return carry[: self.edges.read]

  def saved_of(self, saved, i, ends: Ends):
    del i
    return lax.dynamic_index_in_dim(saved, ends.source, keepdims=False)

  def begin_back(self, dy):
    more = (self.edges.read, *dy.shape[1:])
    return jnp.concatenate([jnp.zeros(more, dy.dtype), dy])

  def read_back(self, carry, ends: Ends):
    return lax.dynamic_index_in_dim(carry, ends.target, keepdims=False)

  def write_back(self, carry, ends: Ends, dx):
    return _add_to(carry, ends.source, dx)

  def end_back(self, carry):
    return carry[: self.edges.inputs]


def _add_to(nodes, i, y):
  old = lax.dynamic_index_in_dim(nodes, i)
  return lax.dynamic_update_index_in_dim(nodes, old + y[None], i, 0)
