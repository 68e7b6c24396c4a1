"""The steps of a run: pure functions (state, batch) -> (state, metrics).

    weight_step  draw a path, train its weights            (training split)
    arch_step    draw a path, train alpha through its gates (held-out split)
    train_step   train an architecture
    eval_step    count what an architecture gets right

Bind what is static with `functools.partial` and jit at the edge; every step
also runs eagerly. Given a mesh, it runs on global arrays on all its devices,
which share the batch: the numbers are those of one device.

A batch is a dict: image f[b, h, w, c], label i32[b], mask f32[b], zero where an
example is padding. Metrics are `Mean`s, merged by addition.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas import objective as objective_lib
from proxyless_jax.nas.arch_update import move_arch
from proxyless_jax.nas.path_gradients import arch_gradients, weight_gradients
from proxyless_jax.nas.rows import get_drawn, update_drawn
from proxyless_jax.nas.state import SearchState, TrainState, split_edges
from proxyless_jax.nn import banks
from proxyless_jax.nn.layers.batch_norm import TOLD, agreed_statistics
from proxyless_jax.nn.networks.gradient_sums import add_up_gradients
from proxyless_jax.parallel.collectives import add_up
from proxyless_jax.parallel.over_devices import over_devices
from proxyless_jax.space import Network
from proxyless_jax.training.metrics import (
  Metrics,
  classification,
  cross_entropy,
)

# Streams of random numbers: one per purpose, folded in before the step.
WEIGHT_STREAM, ARCH_STREAM, TRAIN_STREAM = range(3)


def weight_step(
  state: SearchState,
  batch: dict,
  *,
  module: nn.Module,
  mask: jax.Array,
  tx: optax.GradientTransformation,
  smoothing: float,
  accumulate: int,
  mesh: Mesh | None = None,
) -> tuple[SearchState, Metrics]:
  """Trains the weights of one drawn path; everything off it stays as it is.

  Args:
    state: of the search.
    batch: of the weights' split.
    module: of the space.
    mask: bool[e, k], which candidates exist.
    tx: over the weights; it is applied to the drawn path alone.
    smoothing: of the labels.
    accumulate: parts of the batch, in memory one after the other.
    mesh: of the devices that share the batch; None for one device.
  """
  key = step_key(state, WEIGHT_STREAM)
  gates = gates_lib.draw(key, state.arch, mask, "full")
  gates = jax.lax.stop_gradient(gates)
  drawn = drawn_rows(state.params, module.network, gates.index)
  rows = get_drawn(state.params, drawn)

  def share(held, batch):
    grads, batch_stats, metrics = weight_gradients(
      *held, batch, module=module, smoothing=smoothing, accumulate=accumulate
    )
    gates = held[2]
    index = drawn_rows(grads, module.network, gates.index)
    grads = add_up_gradients(grads, module.network, index)
    return grads, batch_stats, add_up(metrics)

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


def arch_step(
  state: SearchState,
  batch: dict,
  *,
  module: nn.Module,
  mask: jax.Array,
  tx: optax.GradientTransformationExtraArgs,
  costs: Sequence[objective_lib.Cost],
  mode: str,
  smoothing: float,
  accumulate: int,
  mesh: Mesh | None = None,
) -> tuple[SearchState, Metrics]:
  """Trains the architecture parameters; weights and their statistics stay.

  Batch norm uses the batch's own statistics, as in a weight step, and leaves
  the running ones alone.

  Args:
    state: of the search.
    batch: of the held-out split.
    module: of the space.
    mask: bool[e, k], which candidates exist.
    tx: over the architecture, an `optim.arch_optimizer`.
    costs: of the objective, each with a table.
    mode: `full` or `two`, see `gates`.
    smoothing: of the labels.
    accumulate: parts of the batch, in memory one after the other.
    mesh: see `weight_step`.
  """
  key = step_key(state, ARCH_STREAM)
  involved = gates_lib.draw(key, state.arch, mask, mode).involved

  def share(held, batch):
    grads, metrics = arch_gradients(
      *held,
      batch,
      module=module,
      mask=mask,
      costs=costs,
      mode=mode,
      smoothing=smoothing,
      accumulate=accumulate,
    )
    return grads, add_up(metrics)

  variables = {"params": state.params, "batch_stats": state.batch_stats}
  held = state.arch, variables, state.multipliers, key
  grads, metrics = over_devices(share, mesh)(held, batch)
  state, of_costs = move_arch(
    state, grads, involved, mask=mask, tx=tx, costs=costs
  )
  return state, {**metrics, **of_costs}


def train_step(
  state: TrainState,
  batch: dict,
  *,
  module: nn.Module,
  tx: optax.GradientTransformation,
  smoothing: float,
  average_decay: float,
  drop_rate: optax.Schedule | None,
  accumulate: int,
  mesh: Mesh | None = None,
) -> tuple[TrainState, Metrics]:
  """Trains an architecture, but for the edges that its module has frozen.

  Args:
    state: of the training.
    batch: of the training split.
    module: of the architecture; no gradient is taken of its frozen edges, and
      their weights, statistics and averages keep every bit.
    tx: over the weights.
    smoothing: of the labels.
    average_decay: of the moving average of weights and statistics, which
      starts faster: min(average_decay, (1 + step) / (10 + step)). 0 keeps the
      newest.
    drop_rate: of paths beside shortcuts, by step; None drops none.
    accumulate: parts of the batch, in memory one after the other.
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
      smoothing=smoothing,
      accumulate=accumulate,
      frozen=frozen,
    )
    grads = add_up_gradients(grads, module.network, {})
    return grads, batch_stats, add_up(metrics)

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
    average=_averaged(state, trained, average_decay),
    **{name: {**variables[name], **trained[name]} for name in trained},
  )
  return state, metrics


def _averaged(state: TrainState, trained: dict, average_decay: float) -> dict:
  """The average after a step; of frozen edges it stays, not to be rounded."""
  step = state.step.astype(jnp.float32)
  decay = jnp.minimum(average_decay, (1.0 + step) / (10.0 + step))
  before = {
    name: {edge: state.average[name][edge] for edge in edges}
    for name, edges in trained.items()
  }
  moved = optax.incremental_update(trained, before, 1.0 - decay)
  return {name: {**state.average[name], **moved[name]} for name in moved}


def eval_step(
  variables, batch: dict, *, module: nn.Module, mesh: Mesh | None = None
) -> Metrics:
  """Loss, top-1 and top-5 of an architecture over one batch's real examples."""

  def share(variables, batch):
    logits = module.apply(variables, batch["image"], train=False)
    loss = cross_entropy(logits, batch, 0.0)
    return add_up(classification(logits, batch, loss))

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
      mutable=TOLD,
      rngs={"dropout": jax.random.key(0)},
    )
    return agreed_statistics(new)

  return over_devices(share, mesh)(variables, batch)


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
    if len(bank.place.ops) > 1:
      rows = np.array([positions[edge.name] for edge in bank.edges])
      drawn[bank.name] = index[rows]
  return drawn


def step_key(state, stream: int) -> jax.Array:
  """The key of a purpose at the state's step."""
  return jax.random.fold_in(jax.random.fold_in(state.key, stream), state.step)
