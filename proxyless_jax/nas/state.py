"""What a search carries from step to step, all of it in its checkpoints."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from proxyless_jax.nas import gates as gates_lib


@flax.struct.dataclass
class SearchState:
  """The state of a search.

  Attributes:
    step: i32[], weight steps done.
    params, batch_stats: of the supernet.
    opt_state: of the weights' optimizer.
    arch: f32[e, k], architecture parameters.
    arch_opt_state: of the architecture's optimizer.
    multipliers: f32[m], of the m costs' constraints; see `objective.Target`.
    baseline: f32[], moving average of rewards; see `reinforce`.
    updates: i32[], updates by REINFORCE done.
    key: of which every step folds in its number.
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


def search_state(
  key, variables, valid, tx, arch_tx, arch_scale, costs: int
) -> SearchState:
  """The state before the first step of a search.

  Args:
    key: PRNG key.
    variables: {'params', 'batch_stats'} of the supernet.
    valid: bool[e, k], which candidates exist.
    tx, arch_tx: optimizers of weights and architecture.
    arch_scale: standard deviation of the first alpha.
    costs: how many there are.
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
