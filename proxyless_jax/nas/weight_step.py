"""The weight step: draw a path, train its weights and nothing else."""

from __future__ import annotations

import flax.linen as nn
import jax
import numpy as np
import optax
from jax.sharding import Mesh

from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas.rows import get_drawn, update_drawn
from proxyless_jax.nas.state import SearchState
from proxyless_jax.nn import banks
from proxyless_jax.nn.networks.gradient_sums import psum_gradients
from proxyless_jax.parallel.collectives import over_devices, psum
from proxyless_jax.space import Network
from proxyless_jax.training.gradients import weight_gradients
from proxyless_jax.training.metrics import (
  Metrics,
)
from proxyless_jax.training.state import WEIGHT_STREAM, step_key


def weight_step(
  state: SearchState,
  batch: dict,
  *,
  module: nn.Module,
  valid: jax.Array,
  tx: optax.GradientTransformation,
  label_smoothing: float,
  grad_accum: int,
  mesh: Mesh | None = None,
) -> tuple[SearchState, Metrics]:
  """Trains the weights of one drawn path; everything off it stays as it is.

  Args:
    state: of the search.
    batch: of the weights' split.
    module: of the space.
    valid: bool[e, k], which candidates exist.
    tx: over the weights; it is applied to the drawn path alone.
    label_smoothing: of the labels.
    grad_accum: parts of the batch, in memory one after the other.
    mesh: of the devices that share the batch; None for one device.
  """
  key = step_key(state, WEIGHT_STREAM)
  gates = gates_lib.draw(key, state.arch, valid, "full")
  gates = jax.lax.stop_gradient(gates)
  drawn = drawn_rows(state.params, module.network, gates.index)
  rows = get_drawn(state.params, drawn)

  def share(held, batch):
    grads, batch_stats, metrics = weight_gradients(
      *held,
      batch,
      module=module,
      label_smoothing=label_smoothing,
      grad_accum=grad_accum,
    )
    gates = held[2]
    index = drawn_rows(grads, module.network, gates.index)
    grads = psum_gradients(grads, module.network, index)
    return grads, batch_stats, psum(metrics)

  dropout_key = jax.random.fold_in(key, 1)
  held = rows, state.batch_stats, gates, None, dropout_key
  grads, batch_stats, metrics = over_devices(share, mesh)(held, batch)
  params, opt_state = update_drawn(
    tx, grads, state.opt_state, state.params, drawn
  )
  state = state.replace(
    step=state.step + 1,
    params=params,
    batch_stats=batch_stats,
    opt_state=opt_state,
  )
  return state, metrics


def drawn_rows(params, network: Network, index: jax.Array):
  """A tree prefix of `params`: the drawn rows of banks, True for the rest.

  Args:
    params: of the module of a space.
    network: the space.
    index: i32[e], the drawn candidates.
  """
  drawn = dict.fromkeys(params, True)
  positions = {edge.name: i for i, edge in enumerate(network.edges)}
  for bank in banks(network):
    if len(bank.form.ops) > 1:
      rows = np.array([positions[edge.name] for edge in bank.edges])
      drawn[bank.name] = index[rows]
  return drawn
