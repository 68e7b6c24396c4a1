"""Banks: the variables of all candidates of alike edges, as one array.

Row [i, j] of a bank f[n, k, length] holds the variables of candidate j of edge
i: the leaves of their tree one after the other, then zeros up to the longest
candidate. Architectures have named trees instead; `inherit` picks them.
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

from proxyless_jax.nn.declare import declarations
from proxyless_jax.nn.make import make
from proxyless_jax.space import Edge, Network, Op


def alike_runs(edges: tuple[Edge, ...]) -> list[list[Edge]]:
  """Consecutive edges that differ in nothing but their names."""
  return [list(group) for _, group in itertools.groupby(edges, key=nameless)]


def nameless(edge: Edge) -> Edge:
  """The edge as a place: where a candidate stands, whatever it is called."""
  return dataclasses.replace(edge, name="any")


def boxed_variables(op: Op, place: Edge, key: jax.Array) -> dict:
  """{'params', 'batch_stats'} of one candidate, boxed where declared.

  Raises:
    ValueError: its module does not have the name that was asked for, or gives
      another shape than the edge.
  """
  module = make(op, place, name=op.name, bn_momentum=0.0, dropout=0.0)
  if module.name != op.name:
    raise ValueError(
      f"operation {op.name!r}: its module has the name {module.name!r}: "
      "expected that of the operation, under which a derived network looks for "
      "its parameters: pass on the argument `name` of `make`"
    )
  x = jnp.zeros((1, place.size, place.size, place.features_in))
  with declarations():
    y, variables = module.init_with_output(key, x, False)
  _check_output(op, place, y.shape[1:])
  return {"params": {}, "batch_stats": {}, **variables}


def _check_output(op: Op, place: Edge, shape: tuple[int, ...]) -> None:
  expected = (place.size_out, place.size_out, place.features_out)
  if shape not in (expected, expected[2:]):
    raise ValueError(
      f"operation {op.name!r}: its module gives [b, *{shape}]: expected "
      f"[b, *{expected}] at stride {place.stride} from a map of "
      f"{place.size}x{place.size}, or [b, {place.features_out}] where it is "
      "the last"
    )


@functools.lru_cache(maxsize=4096)
def boxed_shapes(op: Op, place: Edge) -> dict:
  """The shapes of `boxed_variables`, in their boxes."""
  key = jax.random.key(0)
  return jax.eval_shape(functools.partial(boxed_variables, op, place), key)


@dataclasses.dataclass(frozen=True)
class Layout:
  """How one candidate's variables of one collection lie in a vector.

  Attributes:
    structure: of their tree.
    shapes: of its leaves, in order.
  """

  structure: Any
  shapes: tuple[tuple[int, ...], ...]

  @property
  def length(self) -> int:
    return sum(math.prod(shape) for shape in self.shapes)

  def unpack(self, vector):
    """f[at least length] -> the tree."""
    return self.structure.unflatten(self.cut(vector))

  def cut(self, vector) -> list:
    """f[at least length] -> the leaves."""
    return _cut(self.shapes, len(vector), vector)

  def pack(self, tree, length: int):
    """The tree -> f[length], zeros at its end. numpy in, numpy out."""
    leaves = [leaf.ravel() for leaf in self.structure.flatten_up_to(tree)]
    numpy = all(isinstance(leaf, np.ndarray) for leaf in leaves)
    lib = np if numpy else jnp
    dtype = lib.result_type(*leaves) if leaves else np.float32
    rest = lib.zeros(length - self.length, dtype)
    return lib.concatenate([*leaves, rest])


@functools.lru_cache(maxsize=4096)
def layout(op: Op, place: Edge, collection: str) -> Layout:
  """Where the variables of `op` at `place` lie in a row of a bank."""
  shapes = nn.meta.unbox(boxed_shapes(op, place))[collection]
  leaves, structure = jax.tree.flatten(shapes)
  return Layout(structure, tuple(leaf.shape for leaf in leaves))


def bank_length(edge: Edge, collection: str) -> int:
  """The longest of an edge's candidates."""
  place = nameless(edge)
  return max(layout(op, place, collection).length for op in edge.ops)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _cut(shapes, length, vector):
  """The leaves that lie in a vector f[length]."""
  ends = np.cumsum([0] + [math.prod(shape) for shape in shapes])
  return [
    vector[start:end].reshape(shape)
    for start, end, shape in zip(ends, ends[1:], shapes)
  ]


def _cut_forward(shapes, length, vector):
  return _cut(shapes, length, vector), vector[:0]


def _cut_backward(shapes, length, empty, pieces):
  # One concatenation. Autodiff's own is a sum of one padded vector per leaf.
  used = sum(math.prod(shape) for shape in shapes)
  pieces = [piece.ravel() for piece in pieces]
  rest = jnp.zeros(length - used, empty.dtype)
  return (jnp.concatenate([*pieces, rest]),)


_cut.defvjp(_cut_forward, _cut_backward)


def inherit(space: Network, variables: dict, network: Network) -> dict:
  """The variables of an architecture, picked from those of its space.

  Args:
    space: from which `network` was chosen.
    variables: {'params', 'batch_stats'} of the space's module.
    network: the architecture.

  Returns:
    {'params', 'batch_stats'} of the architecture's module.
  """
  chosen = {edge.name: edge.op for edge in network.layers}
  return {
    collection: _inherit(space, collection, tree, chosen)
    for collection, tree in variables.items()
  }


def _inherit(space, collection: str, tree: dict, chosen: dict[str, Op]) -> dict:
  picked = {}
  for run in alike_runs(space.layers):
    for i, edge in enumerate(run):
      if len(edge.ops) == 1:
        own = tree.get(edge.name, {})
      else:
        op = chosen[edge.name]
        row = tree[run[0].name][i, edge.index(op.name)]
        own = {op.name: layout(op, nameless(edge), collection).unpack(row)}
      if jax.tree.leaves(own):
        picked[edge.name] = own
  return picked
