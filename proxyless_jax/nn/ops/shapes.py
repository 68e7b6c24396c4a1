"""The variables of a candidate, found by tracing its module: nothing is run."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from proxyless_jax.nn.layers.batch_norm import MUTATED, norm_paths
from proxyless_jax.nn.layers.declare import declarations
from proxyless_jax.nn.ops.base import make
from proxyless_jax.space import Edge, Op


def declared_variables(op: Op, position: Edge, key: jax.Array) -> dict:
  """First variables of a candidate, in `Declared` boxes where it has them.

  Args:
    op: the candidate.
    position: edge without a name.
    key: PRNG key of initialisers that declare no distribution.

  Returns:
    {'params', 'batch_stats'}.

  Raises:
    ValueError: the module lacks the requested name, or its output has another
      shape than the edge's.
  """
  module = make(op, position, name=op.name, bn_momentum=0.0, dropout=0.0)
  if module.name != op.name:
    raise ValueError(
      f"operation {op.name!r}: its module has the name {module.name!r}: "
      "expected that of the operation, under which a derived network looks for "
      "its parameters: pass on the argument `name` of `make`"
    )
  x = jnp.zeros((1, *position.shape_in))
  with declarations():
    y, variables = module.init_with_output(key, x, False)
  _check_output(op, position, y.shape[1:])
  return {"params": {}, "batch_stats": {}, **variables}


def _check_output(op: Op, position: Edge, shape: tuple[int, ...]) -> None:
  expected = position.shape_out
  if shape not in (expected, expected[2:]):
    height, width, _ = position.shape_in
    raise ValueError(
      f"operation {op.name!r}: its module gives [b, *{shape}]: expected "
      f"[b, *{expected}] at stride {position.stride} from a map of "
      f"{height}x{width}, or [b, {position.features_out}] where it is the last"
    )


@functools.lru_cache(maxsize=4096)
def declared_shapes(op: Op, position: Edge) -> dict:
  """The shapes of `declared_variables`, in their boxes."""
  key = jax.random.key(0)
  return jax.eval_shape(
    functools.partial(declared_variables, op, position), key
  )


@functools.lru_cache(maxsize=4096)
def mutated_shapes(op: Op, position: Edge) -> dict:
  """The shapes of the collections `MUTATED` of a candidate's forward pass."""
  # Without a name: this may run while another module is being traced, which may
  # have a submodule of this name.
  module = make(op, position, name=None, bn_momentum=0.0, dropout=0.0)
  x = jnp.zeros((1, *position.shape_in))
  keys = {"dropout": jax.random.key(0)}
  variables = nn.meta.unbox(declared_shapes(op, position))
  with declarations():
    _, mutated = jax.eval_shape(
      lambda v: module.apply(v, x, True, mutable=MUTATED, rngs=keys), variables
    )
  return mutated


def candidate_norm_paths(op: Op, position: Edge) -> frozenset[tuple[str, ...]]:
  """The paths of `BatchNorm` modules among a candidate's parameters."""
  return norm_paths(mutated_shapes(op, position))
