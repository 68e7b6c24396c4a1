"""What a training carries from step to step, all of it in its checkpoints."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

# Folded into the base key before the step: the next number after the streams
# of a search, so that none of its random numbers come again.
TRAIN_STREAM = 2


class TrainState(flax.struct.PyTreeNode):
  """The state of the training of one architecture.

  Attributes:
    step: i32[], number of steps done.
    params, batch_stats: parameters and batch-norm statistics of the network.
    opt_state: state of the optimizer, for the edges that are not frozen.
    ema: {'params', 'batch_stats'}, their exponential moving average.
    key: base PRNG key; see `step_key`.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: optax.OptState
  ema: Any
  key: jax.Array

  def step_key(self) -> jax.Array:
    """The PRNG key of this step."""
    key = jax.random.fold_in(self.key, TRAIN_STREAM)
    return jax.random.fold_in(key, self.step)


def train_state(
  key: jax.Array,
  variables: dict,
  tx: optax.GradientTransformation,
  frozen: frozenset[str] = frozenset(),
) -> TrainState:
  """The state before the first step of training an architecture.

  Args:
    key: PRNG key.
    variables: {'params', 'batch_stats'} of the architecture.
    tx: optimizer of the weights that are trained.
    frozen: names of the edges that are not trained.
  """
  trained, _ = split_edges(variables, frozen)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=variables["params"],
    batch_stats=variables["batch_stats"],
    opt_state=tx.init(trained["params"]),
    # A copy: buffers that two fields share could not be donated.
    ema=jax.tree.map(jnp.copy, dict(variables)),
    key=key,
  )


def split_edges(variables: dict, names: frozenset[str]) -> tuple[dict, dict]:
  """Splits variables of an architecture: (other edges, named edges).

  Args:
    variables: {'params', 'batch_stats'}, each by names of edges.
    names: names of edges.
  """
  others, named = (
    {
      collection: {n: t for n, t in trees.items() if (n in names) == inside}
      for collection, trees in variables.items()
    }
    for inside in (False, True)
  )
  return others, named
