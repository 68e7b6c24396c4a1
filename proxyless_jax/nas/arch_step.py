"""The architecture step: draw a path, train alpha through its gates."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import optax
from jax.sharding import Mesh

from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas import objective as objective_lib
from proxyless_jax.nas.arch_update import move_arch
from proxyless_jax.nas.path_gradients import arch_gradients
from proxyless_jax.nas.state import SearchState
from proxyless_jax.parallel.collectives import over_devices, psum
from proxyless_jax.training.metrics import (
  Metrics,
)
from proxyless_jax.training.state import ARCH_STREAM, step_key


def arch_step(
  state: SearchState,
  batch: dict,
  *,
  module: nn.Module,
  valid: jax.Array,
  tx: optax.GradientTransformationExtraArgs,
  costs: Sequence[objective_lib.Cost],
  mode: str,
  label_smoothing: float,
  grad_accum: int,
  mesh: Mesh | None = None,
) -> tuple[SearchState, Metrics]:
  """Trains the architecture parameters; weights and their statistics stay.

  Batch norm uses the batch's own statistics, as in a weight step, and leaves
  the running ones alone.

  Args:
    state: of the search.
    batch: of the held-out split.
    module: of the space.
    valid: bool[e, k], which candidates exist.
    tx: over the architecture, an `optimizers.arch_optimizer`.
    costs: of the objective, each with a table.
    mode: `full` or `two`, see `gates`.
    label_smoothing: of the labels.
    grad_accum: parts of the batch, in memory one after the other.
    mesh: see `weight_step`.
  """
  key = step_key(state, ARCH_STREAM)
  involved = gates_lib.draw(key, state.arch, valid, mode).involved

  def share(held, batch):
    grads, metrics = arch_gradients(
      *held,
      batch,
      module=module,
      valid=valid,
      costs=costs,
      mode=mode,
      label_smoothing=label_smoothing,
      grad_accum=grad_accum,
    )
    return grads, psum(metrics)

  variables = {"params": state.params, "batch_stats": state.batch_stats}
  held = state.arch, variables, state.multipliers, key
  grads, metrics = over_devices(share, mesh)(held, batch)
  state, of_costs = move_arch(
    state, grads, involved, valid=valid, tx=tx, costs=costs
  )
  return state, {**metrics, **of_costs}
