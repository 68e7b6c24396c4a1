"""Training and evaluating an architecture: pure functions.

    train_step   train an architecture
    eval_step    count what an architecture gets right

Bind what is static with `functools.partial` and jit at the edge; every step
also runs eagerly. Given a mesh, it runs on global arrays on all its devices,
which share the batch: the numbers are those of one device.

A batch is a dict: image f[b, h, w, c], label i32[b], mask f32[b], zero where an
example is padding. Metrics are `Mean`s, merged by addition.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from proxyless_jax.nn.layers.batch_norm import MUTATED, synced_batch_stats
from proxyless_jax.nn.networks.gradient_sums import psum_gradients
from proxyless_jax.parallel.collectives import over_devices, psum
from proxyless_jax.training.gradients import weight_gradients
from proxyless_jax.training.metrics import (
  Metrics,
  classification,
  cross_entropy,
)
from proxyless_jax.training.state import (
  TRAIN_STREAM,
  TrainState,
  split_edges,
  step_key,
)


def train_step(
  state: TrainState,
  batch: dict,
  *,
  module: nn.Module,
  tx: optax.GradientTransformation,
  label_smoothing: float,
  ema_decay: float,
  drop_rate: optax.Schedule | None,
  grad_accum: int,
  mesh: Mesh | None = None,
) -> tuple[TrainState, Metrics]:
  """Trains an architecture, but for the edges that its module has frozen.

  Args:
    state: of the training.
    batch: of the training split.
    module: of the architecture; no gradient is taken of its frozen edges, and
      their weights, statistics and averages keep every bit.
    tx: over the weights.
    label_smoothing: of the labels.
    ema_decay: of the moving average of weights and statistics, which
      starts faster: min(ema_decay, (1 + step) / (10 + step)). 0 keeps the
      newest.
    drop_rate: of paths beside shortcuts, by step; None drops none.
    grad_accum: parts of the batch, in memory one after the other.
    mesh: see `weight_step`.
  """
  key = step_key(state, TRAIN_STREAM)
  rate = None if drop_rate is None else drop_rate(state.step)

  def share(held, batch):
    *trained, frozen = held
    grads, batch_stats, metrics = weight_gradients(
      *trained,
      batch,
      module=module,
      label_smoothing=label_smoothing,
      grad_accum=grad_accum,
      frozen=frozen,
    )
    grads = psum_gradients(grads, module.network, {})
    return grads, batch_stats, psum(metrics)

  variables = {"params": state.params, "batch_stats": state.batch_stats}
  trained, frozen = split_edges(variables, module.frozen)
  params, batch_stats = trained["params"], trained["batch_stats"]
  held = params, batch_stats, None, rate, key, frozen
  grads, batch_stats, metrics = over_devices(share, mesh)(held, batch)
  updates, opt_state = tx.update(grads, state.opt_state, params)
  params = optax.apply_updates(params, updates)
  trained = {"params": params, "batch_stats": batch_stats}
  state = state.replace(
    step=state.step + 1,
    opt_state=opt_state,
    ema=_averaged(state, trained, ema_decay),
    **{name: {**variables[name], **trained[name]} for name in trained},
  )
  return state, metrics


def _averaged(state: TrainState, trained: dict, ema_decay: float) -> dict:
  """The average after a step; of frozen edges it stays, not to be rounded."""
  step = state.step.astype(jnp.float32)
  decay = jnp.minimum(ema_decay, (1.0 + step) / (10.0 + step))
  before = {
    name: {edge: state.ema[name][edge] for edge in edges}
    for name, edges in trained.items()
  }
  moved = optax.incremental_update(trained, before, 1.0 - decay)
  return {name: {**state.ema[name], **moved[name]} for name in moved}


def eval_step(
  variables, batch: dict, *, module: nn.Module, mesh: Mesh | None = None
) -> Metrics:
  """Loss, top-1 and top-5 of an architecture over one batch's real examples."""

  def share(variables, batch):
    logits = module.apply(variables, batch["image"], train=False)
    loss = cross_entropy(logits, batch, 0.0)
    return psum(classification(logits, batch, loss))

  return over_devices(share, mesh)(variables, batch)


def batch_statistics(
  variables, batch: dict, *, module: nn.Module, mesh: Mesh | None = None
):
  """The batch-norm statistics of one batch, by a module of momentum 0."""

  def share(variables, batch):
    _, new = module.apply(
      variables,
      batch["image"],
      train=True,
      mutable=MUTATED,
      rngs={"dropout": jax.random.key(0)},
    )
    return synced_batch_stats(new)

  return over_devices(share, mesh)(variables, batch)
