"""What variables a candidate has: its module is traced, nothing is computed."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from proxyless_jax.nn.layers.batch_norm import TOLD, norms_of
from proxyless_jax.nn.layers.declare import declarations
from proxyless_jax.nn.ops.base import make
from proxyless_jax.space import Edge, Op


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
  x = jnp.zeros((1, *place.shape_in))
  with declarations():
    y, variables = module.init_with_output(key, x, False)
  _check_output(op, place, y.shape[1:])
  return {"params": {}, "batch_stats": {}, **variables}


def _check_output(op: Op, place: Edge, shape: tuple[int, ...]) -> None:
  expected = place.shape_out
  if shape not in (expected, expected[2:]):
    height, width, _ = place.shape_in
    raise ValueError(
      f"operation {op.name!r}: its module gives [b, *{shape}]: expected "
      f"[b, *{expected}] at stride {place.stride} from a map of "
      f"{height}x{width}, or [b, {place.features_out}] where it is the last"
    )


@functools.lru_cache(maxsize=4096)
def boxed_shapes(op: Op, place: Edge) -> dict:
  """The shapes of `boxed_variables`, in their boxes."""
  key = jax.random.key(0)
  return jax.eval_shape(functools.partial(boxed_variables, op, place), key)


@functools.lru_cache(maxsize=4096)
def told_in_training(op: Op, place: Edge) -> dict:
  """The shapes of what a candidate tells of a batch, by `TOLD`."""
  # Without a name: a module that is being traced may have one of its name.
  module = make(op, place, name=None, bn_momentum=0.0, dropout=0.0)
  x = jnp.zeros((1, *place.shape_in))
  keys = {"dropout": jax.random.key(0)}
  _, told = jax.eval_shape(
    lambda v: module.apply(v, x, True, mutable=TOLD, rngs=keys),
    nn.meta.unbox(boxed_shapes(op, place)),
  )
  return told


def norms_at(op: Op, place: Edge) -> frozenset[tuple[str, ...]]:
  """The paths of batch norms among a candidate's parameters."""
  return norms_of(told_in_training(op, place))
