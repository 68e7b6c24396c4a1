"""Training and evaluating an architecture: pure functions.

    train_step        train an architecture
    eval_step         count what an architecture gets right
    predict_step      the probabilities of the classes
    batch_statistics  the batch-norm statistics of a batch

Bind what is static with `functools.partial` and jit at the edge; every step
also runs eagerly. Given a mesh, a step runs on global arrays on all its
devices, which share the batch: the numbers are those of one device.

A batch is a dict: image f[b, h, w, c], label i32[b], mask f32[b], zero where an
example is padding. Metrics are `Mean`s, merged by addition.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from proxyless_jax.nn.networks.train_pass import forward, psum_gradients
from proxyless_jax.parallel.collectives import all_gather, over_devices, psum
from proxyless_jax.training.metrics import (
  Metrics,
  classification,
  cross_entropy,
  in_parts,
)
from proxyless_jax.training.state import TrainState, split_edges


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
  """Trains an architecture, except for the edges that its module has frozen.

  Args:
    state: state of the training.
    batch: images and labels of the training split.
    module: module of the architecture; no gradient is taken of its frozen
      edges, and their weights, statistics and averages keep every bit.
    tx: optimizer of the weights.
    label_smoothing: smoothing of the labels.
    ema_decay: decay of the moving average of weights and statistics, which
      starts faster: min(ema_decay, (1 + step) / (10 + step)). 0 keeps the
      newest.
    drop_rate: rate by step at which paths beside shortcuts are dropped; None
      drops none.
    grad_accum: number of parts of the batch, in memory one after the other.
    mesh: devices that share the batch; None for one device.
  """
  learn = functools.partial(
    weight_gradients,
    module=module,
    label_smoothing=label_smoothing,
    grad_accum=grad_accum,
  )

  def on_shard(
    replicated: tuple[dict, dict, jax.Array | None, jax.Array], batch: dict
  ) -> tuple[dict, dict, Metrics]:
    grads, batch_stats, metrics = learn(*replicated, batch)
    return psum_gradients(grads, module.network), batch_stats, psum(metrics)

  variables = {"params": state.params, "batch_stats": state.batch_stats}
  trained, frozen = split_edges(variables, module.frozen)
  rate = None if drop_rate is None else drop_rate(state.step)
  replicated = trained, frozen, rate, state.step_key()
  grads, batch_stats, metrics = over_devices(on_shard, mesh)(replicated, batch)
  updates, opt_state = tx.update(grads, state.opt_state, trained["params"])
  params = optax.apply_updates(trained["params"], updates)
  trained = {"params": params, "batch_stats": batch_stats}
  state = state.replace(
    step=state.step + 1,
    opt_state=opt_state,
    ema=_averaged(state, trained, ema_decay),
    **{name: {**variables[name], **trained[name]} for name in trained},
  )
  return state, metrics


def weight_gradients(
  trained: dict,
  frozen: dict,
  drop_rate: jax.Array | None,
  key: jax.Array,
  batch: dict,
  *,
  module: nn.Module,
  label_smoothing: float,
  grad_accum: int,
) -> tuple[dict, dict, Metrics]:
  """Gradients of the mean loss in the weights of an architecture.

  On a device's share of a batch they are its own part, to be added up.

  Args:
    trained: {'params', 'batch_stats'} of the edges that are trained.
    frozen: {'params', 'batch_stats'} of those that are not.
    drop_rate: f[], rate at which paths beside shortcuts are dropped, or None.
    key: PRNG key for dropout.
    batch, module, label_smoothing, grad_accum: as for `train_step`.

  Returns:
    Gradients, new batch-norm statistics, both without frozen edges; metrics.
  """

  def of_part(
    part: dict, batch_stats: dict, key: jax.Array
  ) -> tuple[dict, tuple[dict, Metrics]]:
    def loss_of(params: dict) -> tuple[jax.Array, tuple[dict, Metrics]]:
      variables = {
        "params": {**params, **frozen["params"]},
        "batch_stats": {**batch_stats, **frozen["batch_stats"]},
      }
      logits, new = forward(
        module, variables, part["image"], key, drop_rate=drop_rate
      )
      loss = cross_entropy(logits, part, label_smoothing)
      new = {name: new[name] for name in batch_stats}
      return loss, (new, classification(logits, part, loss))

    return jax.grad(loss_of, has_aux=True)(trained["params"])

  grads, (batch_stats, metrics) = in_parts(
    of_part, grad_accum, batch, trained["batch_stats"], key
  )
  return grads, batch_stats, metrics


def _averaged(state: TrainState, trained: dict, ema_decay: float) -> dict:
  """The moving average after a step; that of frozen edges keeps its bits."""
  step = state.step.astype(jnp.float32)
  decay = jnp.minimum(ema_decay, (1.0 + step) / (10.0 + step))
  before = {
    name: {edge: state.ema[name][edge] for edge in edges}
    for name, edges in trained.items()
  }
  moved = optax.incremental_update(trained, before, 1.0 - decay)
  return {name: {**state.ema[name], **moved[name]} for name in moved}


def eval_step(
  variables: dict, batch: dict, *, module: nn.Module, mesh: Mesh | None = None
) -> Metrics:
  """Loss, top-1 and top-5 of an architecture over one batch's real examples.

  Args:
    variables: {'params', 'batch_stats'} of the module.
    batch: images and labels.
    module: module of the architecture.
    mesh: devices that share the batch; None for one device.
  """

  def on_shard(variables: dict, batch: dict) -> Metrics:
    # Any: the type of `apply` has a pair too, of calls with `mutable`.
    logits: Any = module.apply(variables, batch["image"], train=False)
    loss = cross_entropy(logits, batch, 0.0)
    return psum(classification(logits, batch, loss))

  return over_devices(on_shard, mesh)(variables, batch)


def predict_step(
  variables: dict, batch: dict, *, module: nn.Module, mesh: Mesh | None = None
) -> jax.Array:
  """The probabilities of the classes, f32[b, classes]: softmax of the logits.

  Args:
    variables: {'params', 'batch_stats'} of the module.
    batch: images.
    module: module of the architecture.
    mesh: devices that share the batch; None for one device.
  """

  def on_shard(variables: dict, batch: dict) -> jax.Array:
    logits: Any = module.apply(variables, batch["image"], train=False)
    return all_gather(jax.nn.softmax(logits.astype(jnp.float32)))

  return over_devices(on_shard, mesh)(variables, batch)


def batch_statistics(
  variables: dict, batch: dict, *, module: nn.Module, mesh: Mesh | None = None
) -> dict:
  """The batch-norm statistics of one batch.

  Args:
    variables: {'params', 'batch_stats'} of the module.
    batch: images.
    module: module of the architecture, with a batch-norm momentum of 0.
    mesh: devices that share the batch; None for one device.
  """

  def on_shard(variables: dict, batch: dict) -> dict:
    key = jax.random.key(0)
    return forward(module, variables, batch["image"], key)[1]

  return over_devices(on_shard, mesh)(variables, batch)
