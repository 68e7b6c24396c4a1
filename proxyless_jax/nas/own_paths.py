"""A path for every device: each draws its own, and learns its share with it.

Where devices share a path, a step sees one path on the whole batch. Here each
of n devices draws a path from the same alpha, and runs it on its share of the
batch, with the batch-norm moments of that share. With g_d of device d,

    weights of a bank's row:  mean of g_d over the devices that drew it
    all other weights:        mean of g_d over all devices
    alpha:                    mean of g_d over all devices

Each g_d has the expectation of the gradient of one device by itself, so their
mean has it too, and the draws' part of its variance is 1 / n of theirs. Devices
exchange gradients of all candidates for it, not of one path. The state is held
by all devices.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas import objective as objective_lib
from proxyless_jax.nas.arch_update import move_arch
from proxyless_jax.nas.path_gradients import arch_gradients
from proxyless_jax.nas.rows import get_drawn
from proxyless_jax.nas.state import SearchState
from proxyless_jax.nas.transforms import drawn_only
from proxyless_jax.nas.weight_step import drawn_rows
from proxyless_jax.parallel.collectives import over_devices
from proxyless_jax.training.gradients import weight_gradients
from proxyless_jax.training.metrics import Metrics
from proxyless_jax.training.state import ARCH_STREAM, WEIGHT_STREAM, step_key

# Not `nn.parallel.DATA`: layers must exchange nothing between paths.
AXIS = "path"


def weight_step(
  state: SearchState,
  batch: dict,
  *,
  module: nn.Module,
  valid: jax.Array,
  tx: optax.GradientTransformation,
  label_smoothing: float,
  grad_accum: int,
  mesh: Mesh,
) -> tuple[SearchState, Metrics]:
  """As `weight_step.weight_step`, on one path for each device of `mesh`."""

  def share(held, batch):
    params, batch_stats, arch, key = held
    key = _own_key(key)
    gates = gates_lib.draw(key, arch, valid, "full")
    gates = lax.stop_gradient(gates)
    drawn = drawn_rows(params, module.network, gates.index)
    grads, new, metrics = weight_gradients(
      get_drawn(params, drawn),
      batch_stats,
      gates,
      None,
      jax.random.fold_in(key, 1),
      batch,
      module=module,
      label_smoothing=label_smoothing,
      grad_accum=grad_accum,
    )
    drawn = {
      name: jax.nn.one_hot(index, params[name].shape[1], dtype=bool)
      for name, index in drawn.items()
      if index is not True
    }
    grads, new = mean_over_drawers((grads, new), drawn)
    by_any = {name: lax.pmax(rows, AXIS) for name, rows in drawn.items()}
    for name, rows in by_any.items():
      new[name] = jnp.where(rows[..., None], new[name], batch_stats[name])
    return grads, by_any, new, lax.psum(metrics, AXIS)

  key = step_key(state, WEIGHT_STREAM)
  held = state.params, state.batch_stats, state.arch, key
  own = Mesh(mesh.devices, (AXIS,))
  grads, drawn, batch_stats, metrics = over_devices(share, own, AXIS)(
    held, batch
  )
  drawn = {name: rows[..., None] for name, rows in drawn.items()}
  updates, opt_state = drawn_only(tx).update(
    grads,
    state.opt_state,
    state.params,
    drawn={**dict.fromkeys(state.params, True), **drawn},
  )
  state = state.replace(
    step=state.step + 1,
    params=optax.apply_updates(state.params, updates),
    batch_stats=batch_stats,
    opt_state=opt_state,
  )
  return state, metrics


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
  mesh: Mesh,
) -> tuple[SearchState, Metrics]:
  """As `arch_step.arch_step`, on one path for each device of `mesh`.

  In mode `two` each device draws its own pair, and the probability that is
  kept is that of all candidates of an edge that are in some pair.
  """

  def share(held, batch):
    arch, variables, multipliers, key = held
    key = _own_key(key)
    grads, metrics = arch_gradients(
      arch,
      variables,
      multipliers,
      key,
      batch,
      module=module,
      valid=valid,
      costs=costs,
      mode=mode,
      label_smoothing=label_smoothing,
      grad_accum=grad_accum,
    )
    involved = gates_lib.draw(key, arch, valid, mode).involved
    return (
      lax.pmean(grads, AXIS),
      lax.pmax(involved, AXIS),
      lax.psum(metrics, AXIS),
    )

  variables = {"params": state.params, "batch_stats": state.batch_stats}
  key = step_key(state, ARCH_STREAM)
  held = state.arch, variables, state.multipliers, key
  own = Mesh(mesh.devices, (AXIS,))
  grads, involved, metrics = over_devices(share, own, AXIS)(held, batch)
  state, of_costs = move_arch(
    state, grads, involved, valid=valid, tx=tx, costs=costs
  )
  return state, {**metrics, **of_costs}


def mean_over_drawers(trees, drawn: dict[str, jax.Array]):
  """Means over devices, under `jax.shard_map` over `AXIS`.

  Args:
    trees: dicts by names; under that of a bank an array f[n, k, ...], or
      f[n, 1, ...] of the drawn rows.
    drawn: bool[n, k] by the names of banks, one-hot in k: this device's draw.

  Returns:
    The same dicts. Banks are f[n, k, ...]: a row is the mean over the devices
    that drew it, zero where none did. All else is the mean over all devices.
  """

  def mean(name, leaf):
    if name not in drawn:
      return lax.pmean(leaf, AXIS)
    own = drawn[name].reshape(*drawn[name].shape, *(1,) * (leaf.ndim - 2))
    count = lax.psum(own.astype(leaf.dtype), AXIS)
    return lax.psum(jnp.where(own, leaf, 0), AXIS) / jnp.maximum(count, 1)

  return tuple(
    {name: mean(name, leaf) for name, leaf in tree.items()} for tree in trees
  )


def _own_key(key: jax.Array) -> jax.Array:
  """A device's key: its draws are independent of the others'."""
  return jax.random.fold_in(key, lax.axis_index(AXIS))
