"""Wirings: what mixed edges read, and where their outputs go.

A `Line` is a chain of edges, with a shortcut beside each or beside none. A
`Graph` is any acyclic graph, whose nodes are sums of the edges that lead to
them.

A wiring serves two loops: the forward loop over edges, whose carry holds what
later edges read, and the backward loop, whose carry holds the gradients of
those arrays.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from proxyless_jax.space.networks.tree import EdgeGraph


class Wiring(abc.ABC):
  """How edges are joined; hashable, since it is a static argument."""

  @abc.abstractmethod
  def ends(self) -> Any:
    """What differs between the edges: arrays with one row per edge, or None."""

  @abc.abstractmethod
  def begin(self, x: jax.Array) -> jax.Array:
    """The forward loop's first carry, from the input of the wiring."""

  @abc.abstractmethod
  def read(self, carry: jax.Array, ends: Any) -> jax.Array:
    """An edge's input f[b, h, w, c], by its row of `ends`."""

  @abc.abstractmethod
  def write(self, carry: jax.Array, ends: Any, y: jax.Array) -> jax.Array:
    """The carry after an edge whose output is y."""

  @abc.abstractmethod
  def end(self, carry: jax.Array) -> jax.Array:
    """The output of the wiring, from the last carry."""

  @abc.abstractmethod
  def save(self, carry: jax.Array, inputs: jax.Array) -> jax.Array:
    """What the backward loop needs to know the edges' inputs.

    Args:
      carry: last carry of the forward loop.
      inputs: f[edges, b, h, w, c]. XLA drops it where it is not used.
    """

  @abc.abstractmethod
  def saved_of(self, saved: jax.Array, i: jax.Array, ends: Any) -> jax.Array:
    """The input of edge i, from the result of `save`."""

  @abc.abstractmethod
  def begin_back(self, dy: jax.Array) -> jax.Array:
    """The backward loop's first carry, from the gradient of the output."""

  @abc.abstractmethod
  def read_back(self, carry: jax.Array, ends: Any) -> jax.Array:
    """The gradient of an edge's output."""

  @abc.abstractmethod
  def write_back(self, carry: jax.Array, ends: Any, dx: jax.Array) -> jax.Array:
    """The carry after an edge whose input's gradient is dx."""

  @abc.abstractmethod
  def end_back(self, carry: jax.Array) -> jax.Array:
    """The gradient of the wiring's input, from the last carry."""


@dataclasses.dataclass(frozen=True)
class Line(Wiring):
  """Each edge reads the output of the one before it.

  Attributes:
    shortcut: whether each edge adds its input to its output.
  """

  shortcut: bool

  def ends(self) -> None:
    return None

  def begin(self, x: jax.Array) -> jax.Array:
    return x

  def read(self, carry: jax.Array, ends: None) -> jax.Array:
    del ends
    return carry

  def write(self, carry: jax.Array, ends: None, y: jax.Array) -> jax.Array:
    del ends
    return carry + y if self.shortcut else y

  def end(self, carry: jax.Array) -> jax.Array:
    return carry

  def save(self, carry: jax.Array, inputs: jax.Array) -> jax.Array:
    del carry
    return inputs

  def saved_of(self, saved: jax.Array, i: jax.Array, ends: None) -> jax.Array:
    del ends
    return lax.dynamic_index_in_dim(saved, i, keepdims=False)

  def begin_back(self, dy: jax.Array) -> jax.Array:
    return dy

  def read_back(self, carry: jax.Array, ends: None) -> jax.Array:
    del ends
    return carry

  def write_back(
    self, carry: jax.Array, ends: None, dx: jax.Array
  ) -> jax.Array:
    # d(x + o(x)) = dy + dx, and the carry is dy.
    del ends
    return carry + dx if self.shortcut else dx

  def end_back(self, carry: jax.Array) -> jax.Array:
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
class Graph(Wiring):
  """Edges between the nodes of a graph.

  Its carries hold all nodes, f[nodes, b, h, w, c]. The backward pass needs one
  array for each node that edges read, however many edges there are.

  Attributes:
    edges: nodes that each edge reads and leads to.
  """

  edges: EdgeGraph

  def ends(self) -> Ends:
    return Ends(
      jnp.array(self.edges.sources, jnp.int32),
      jnp.array(self.edges.targets, jnp.int32),
    )

  def begin(self, x: jax.Array) -> jax.Array:
    # Nodes are in this order: inputs, inner ones, outputs. The last two are
    # sums, which begin at zero.
    more = (self.edges.inner + self.edges.outputs, *x.shape[1:])
    return jnp.concatenate([x, jnp.zeros(more, x.dtype)])

  def read(self, carry: jax.Array, ends: Ends) -> jax.Array:
    return lax.dynamic_index_in_dim(carry, ends.source, keepdims=False)

  def write(self, carry: jax.Array, ends: Ends, y: jax.Array) -> jax.Array:
    return _add_to(carry, ends.target, y)

  def end(self, carry: jax.Array) -> jax.Array:
    return carry[self.edges.read :]

  def save(self, carry: jax.Array, inputs: jax.Array) -> jax.Array:
    # After the last edge the nodes still hold what edges read: none is written
    # after it was read.
    del inputs
    return carry[: self.edges.read]

  def saved_of(self, saved: jax.Array, i: jax.Array, ends: Ends) -> jax.Array:
    del i
    return lax.dynamic_index_in_dim(saved, ends.source, keepdims=False)

  def begin_back(self, dy: jax.Array) -> jax.Array:
    # Nodes that edges read collect gradients from zero; outputs have theirs.
    more = (self.edges.read, *dy.shape[1:])
    return jnp.concatenate([jnp.zeros(more, dy.dtype), dy])

  def read_back(self, carry: jax.Array, ends: Ends) -> jax.Array:
    return lax.dynamic_index_in_dim(carry, ends.target, keepdims=False)

  def write_back(
    self, carry: jax.Array, ends: Ends, dx: jax.Array
  ) -> jax.Array:
    return _add_to(carry, ends.source, dx)

  def end_back(self, carry: jax.Array) -> jax.Array:
    return carry[: self.edges.inputs]


def _add_to(nodes: jax.Array, i: jax.Array, y: jax.Array) -> jax.Array:
  # By slices: `nodes.at[i].add(y)` would be a scatter.
  old = lax.dynamic_index_in_dim(nodes, i)
  return lax.dynamic_update_index_in_dim(nodes, old + y[None], i, 0)
