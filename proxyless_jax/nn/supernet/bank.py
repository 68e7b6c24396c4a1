"""Banks: the variables of all candidates of alike edges, as one array.

Row [i, j] of a bank f[n, k, length] holds the variables of candidate j of edge
i: the leaves of their tree one after the other, or as `Layout.order` has them,
then zeros up to the longest candidate. Architectures have named trees instead;
`inherit` picks them.

Edges of nearly the same width can share a bank too: see `Bank`. Why banks: the
compile time of XLA grows with the number of arrays, and a space has a thousand.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from proxyless_jax.nn.layers.batch_norm import MOMENTS
from proxyless_jax.nn.ops.shapes import (
  candidate_norm_paths,
  declared_shapes,
  mutated_shapes,
)
from proxyless_jax.nn.supernet.parts import is_bottleneck, row_of
from proxyless_jax.space import Edge, Network, Op

# Rows of parameters are multiples of so many numbers: as many devices as divide
# it can each keep a part of every row.
ROW = 512

Array = jax.Array | np.ndarray


def alike_runs(edges: tuple[Edge, ...]) -> list[list[Edge]]:
  """Groups of consecutive edges that differ in nothing but their names."""
  return [list(group) for _, group in itertools.groupby(edges, key=nameless)]


def nameless(edge: Edge) -> Edge:
  """The edge without its name: a position, which alike edges share.

  Functions that are cached by position serve all edges that are alike.
  """
  return dataclasses.replace(edge, name="any")


@dataclasses.dataclass(frozen=True)
class Layout:
  """How one candidate's variables of one collection lie in a vector.

  Attributes:
    structure: tree structure of the variables.
    shapes: shapes of the leaves, in the structure's order.
    order: for each entry of the vector, which of the leaves' it is, where they
      do not lie one after the other.
  """

  structure: Any
  shapes: tuple[tuple[int, ...], ...]
  order: np.ndarray | None = dataclasses.field(default=None, compare=False)

  @property
  def length(self) -> int:
    """Number of entries."""
    return sum(math.prod(shape) for shape in self.shapes)

  @functools.cached_property
  def _places(self) -> np.ndarray:
    """Where each entry of the leaves lies in the vector."""
    assert self.order is not None
    return np.argsort(self.order)

  def unpack(self, vector: Array) -> Any:
    """The tree in a vector f[length or more]."""
    return self.structure.unflatten(self.cut(vector))

  def cut(self, vector: Array) -> list:
    """The leaves in a vector f[length or more]: NumPy's if it is."""
    if self.order is not None:
      vector = vector[self._places]
    if isinstance(vector, np.ndarray):
      return _slices(self.shapes, vector)
    return _cut(self.shapes, len(vector), vector)

  def pack(self, tree: Any, length: int) -> Array:
    """A vector f[length] of the leaves, then zeros: NumPy's if they all are."""
    leaves = [leaf.ravel() for leaf in self.structure.flatten_up_to(tree)]
    numpy = all(isinstance(leaf, np.ndarray) for leaf in leaves)
    # NumPy where it can be: `init` packs thousands of rows on the host, and JAX
    # would compile for every shape.
    lib = np if numpy else jnp
    dtype = lib.result_type(*leaves) if leaves else np.float32
    rest = lib.zeros(length - self.length, dtype)
    if self.order is not None:
      leaves = [lib.concatenate(leaves)[self.order]]
    return lib.concatenate([*leaves, rest])


@functools.lru_cache(maxsize=4096)
def layout(op: Op, position: Edge, collection: str) -> Layout:
  """Where a candidate's variables lie in a row of a bank.

  Args:
    op: the candidate.
    position: edge without a name.
    collection: 'params', 'batch_stats' or `MOMENTS`.
  """
  shapes = nn.meta.unbox(declared_shapes(op, position))
  if collection == MOMENTS:
    shapes = {MOMENTS: {}, **mutated_shapes(op, position)}
  leaves, structure = jax.tree.flatten(shapes[collection])
  whole = Layout(structure, tuple(leaf.shape for leaf in leaves))
  if not is_bottleneck(op):
    return whole
  numbers = whole.unpack(np.arange(whole.length, dtype=np.int32))
  return dataclasses.replace(whole, order=row_of(op, numbers))


@functools.lru_cache(maxsize=4096)
def unsummed_spans(op: Op, position: Edge) -> tuple[tuple[int, int], ...]:
  """The spans of a row whose gradients still have to be summed over devices.

  They are those of all parameters but batch norms', whose gradients
  `batch_norm` sums itself.

  Args:
    op: the candidate.
    position: edge without a name.

  Returns:
    (start, end) of each span, in order; adjacent ones are joined.
  """
  norms = candidate_norm_paths(op, position)
  own = layout(op, position, "params")
  numbers = own.structure.unflatten(range(len(own.shapes)))
  unsummed = own.structure.unflatten(
    [
      np.full(own.shapes[i], tuple(key.key for key in path[:-1]) not in norms)
      for path, i in jax.tree_util.tree_leaves_with_path(numbers)
    ]
  )
  marks = own.pack(unsummed, own.length).astype(np.int8)
  # Where it begins to be one, and where it ceases to be.
  ends = np.flatnonzero(np.diff(marks, prepend=0, append=0))
  return tuple((int(a), int(b)) for a, b in zip(ends[::2], ends[1::2]))


@dataclasses.dataclass(frozen=True)
class Bank:
  """The variables of edges that run as if they were alike.

  Attributes:
    name: name of its arrays among a module's variables.
    edges: edge of each row.
    form: edge without a name that every row is stored as, with the candidates
      of all. Its widths may be larger than those of an edge, whose row then has
      zeros for the channels that the edge lacks.
    segments: numbers of segments that the channels of the form's input and
      output consist of, each of which ends with such zeros of its own.
  """

  name: str
  edges: tuple[Edge, ...]
  form: Edge
  segments: tuple[int, int] = (1, 1)

  def length(self, collection: str) -> int:
    """Length of a row: that of the longest candidate.

    Rows of parameters are rounded up to a multiple of `ROW`.
    """
    lengths = (layout(op, self.form, collection) for op in self.form.ops)
    longest = max(one.length for one in lengths)
    return longest if collection != "params" else -(-longest // ROW) * ROW

  def pack(self, op: Op, collection: str, tree: Any) -> Array:
    """A row f[length] from the variables of an edge's candidate.

    Args:
      op: the candidate.
      collection: 'params' or 'batch_stats'.
      tree: its variables, NumPy arrays of the edge's own widths.
    """
    stored = layout(op, self.form, collection)
    leaves = stored.structure.flatten_up_to(tree)
    wide = [
      _widen(leaf, shape, self._segments(shape))
      for leaf, shape in zip(leaves, stored.shapes)
    ]
    tree = stored.structure.unflatten(wide)
    return stored.pack(tree, self.length(collection))

  def unpack(self, op: Op, edge: Edge, collection: str, row: Array) -> Any:
    """The variables of an edge's candidate from a row f[length].

    Args:
      op: the candidate.
      edge: edge of the row.
      collection: 'params' or 'batch_stats'.
      row: array of JAX or NumPy; the result has the same kind of arrays.
    """
    own = layout(op, nameless(edge), collection)
    leaves = layout(op, self.form, collection).cut(row)
    narrow = [
      _narrow(leaf, shape, self._segments(shape))
      for leaf, shape in zip(leaves, own.shapes)
    ]
    return own.structure.unflatten(narrow)

  def _segments(self, shape: tuple[int, ...]) -> int:
    """Number of segments of the last axis.

    Vectors belong to a norm, of the input's channels; kernels have the output's
    channels last.
    """
    return self.segments[len(shape) > 1]


def _widen(
  leaf: np.ndarray, shape: tuple[int, ...], segments: int
) -> np.ndarray:
  """Appends zeros to all axes; on the last axis, to each segment of it."""
  if leaf.shape == shape:
    return leaf
  *others, last = shape
  leaf = leaf.reshape(*leaf.shape[:-1], segments, -1)
  wide = (*others, segments, last // segments)
  pad = [(0, new - old) for old, new in zip(leaf.shape, wide)]
  return np.pad(leaf, pad).reshape(shape)


def _narrow(leaf, shape: tuple[int, ...], segments: int):
  """Undoes `_widen`."""
  if leaf.shape == shape:
    return leaf
  *others, last = shape
  leaf = leaf.reshape(*leaf.shape[:-1], segments, -1)
  own = tuple(map(slice, (*others, segments, last // segments)))
  return leaf[own].reshape(shape)


@functools.singledispatch
def banks(network: Network) -> tuple[Bank, ...]:
  """The banks of a network's module; all other edges have named trees.

  Dispatches on the type of network. A family whose searched edges do not form
  one line registers a function of its own, such as one that joins `line_banks`
  of several lines.

  Args:
    network: a space or an architecture.
  """
  return line_banks(network.layers)


def line_banks(edges: tuple[Edge, ...]) -> tuple[Bank, ...]:
  """The banks of edges that run one after the other.

  Args:
    edges: searched and fixed edges, in the order in which they run.
  """
  return tuple(
    Bank(run[0].name, tuple(run), nameless(run[0]))
    for run in alike_runs(edges)
    if len(run[0].ops) > 1
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _cut(shapes, length, vector):
  """The leaves that lie in a vector f[length]; its gradient is one copy."""
  del length  # The backward pass needs it.
  return _slices(shapes, vector)


def _slices(shapes, vector) -> list:
  ends = np.cumsum([0] + [math.prod(shape) for shape in shapes])
  return [
    vector[start:end].reshape(shape)
    for start, end, shape in zip(ends, ends[1:], shapes)
  ]


def _cut_forward(shapes, length, vector):
  # Of the vector, the backward pass needs its type alone.
  return _cut(shapes, length, vector), vector[:0]


def _cut_backward(shapes, length, empty, pieces):
  # One concatenation. Autodiff's own is a sum of one padded vector per leaf.
  used = sum(math.prod(shape) for shape in shapes)
  pieces = [piece.ravel() for piece in pieces]
  rest = jnp.zeros(length - used, empty.dtype)
  return (jnp.concatenate([*pieces, rest]),)


_cut.defvjp(_cut_forward, _cut_backward)
