"""What a search carries from step to step, all of it in its checkpoints."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from proxyless_jax.nas import gates as gates_lib

# Streams of random numbers, one for each purpose.
WEIGHT_STREAM, ARCH_STREAM = range(2)


class SearchState(flax.struct.PyTreeNode):
  """The state of a search.

  Attributes:
    step: i32[], number of weight steps done.
    params, batch_stats: parameters and batch-norm statistics of the supernet.
    opt_state: state of the weights' optimizer.
    arch: f32[e, k], architecture parameters.
    arch_opt_state: state of the architecture's optimizer.
    multipliers: f32[m], one for each cost's constraint; see `objective.Target`.
    baseline: f32[], moving average of rewards; see `reinforce`.
    updates: i32[], number of updates by REINFORCE done.
    key: base PRNG key; see `step_key`.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: optax.OptState
  arch: jax.Array
  arch_opt_state: optax.OptState
  multipliers: jax.Array
  baseline: jax.Array
  updates: jax.Array
  key: jax.Array

  def step_key(self, stream: int) -> jax.Array:
    """The PRNG key of a stream at this step."""
    return jax.random.fold_in(jax.random.fold_in(self.key, stream), self.step)


def search_state(
  key: jax.Array,
  variables: dict,
  valid: jax.Array,
  tx: optax.GradientTransformation,
  arch_tx: optax.GradientTransformation,
  arch_scale: float,
  costs: int,
) -> SearchState:
  """The state before the first step of a search.

  Args:
    key: PRNG key.
    variables: {'params', 'batch_stats'} of the supernet.
    valid: bool[e, k], the candidates that exist.
    tx, arch_tx: optimizers of the weights and of the architecture.
    arch_scale: standard deviation of the first alpha.
    costs: number of costs.
  """
  arch_key, key = jax.random.split(key)
  arch = gates_lib.init_arch(arch_key, valid, arch_scale)
  return SearchState(
    step=jnp.zeros((), jnp.int32),
    params=variables["params"],
    batch_stats=variables["batch_stats"],
    opt_state=tx.init(variables["params"]),
    arch=arch,
    arch_opt_state=arch_tx.init(arch),
    multipliers=jnp.zeros(costs, jnp.float32),
    baseline=jnp.zeros((), jnp.float32),
    updates=jnp.zeros((), jnp.int32),
    key=key,
  )
