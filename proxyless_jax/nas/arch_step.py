"""The architecture step: draw a path, train alpha through its gates.

    gates ~ softmax(alpha),   alpha <- T(alpha, d objective / d alpha)

through the straight-through rule of `gates`. Weights and statistics stay.

Devices share the path and the batch, and exchange the gradients of the gates
alone. With `path_per_device` each of n devices draws gates of its own for its
share of the batch, and alpha follows the mean of their n gradients. Each has
the expectation of the gradient of one device by itself, so their mean has it
too, and the draws' part of its variance is 1 / n of theirs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas import objective as objective_lib
from proxyless_jax.nas.state import ARCH_STREAM, SearchState
from proxyless_jax.parallel.collectives import (
  DATA,
  PATH,
  over_devices,
  psum,
  psum_backward,
)
from proxyless_jax.training.metrics import (
  Metrics,
  classification,
  cross_entropy,
  in_parts,
  once,
)


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
  draw: gates_lib.Draw = gates_lib.draw,
  terms: Sequence[objective_lib.Term] = (),
  mesh: Mesh | None = None,
  path_per_device: bool = False,
) -> tuple[SearchState, Metrics]:
  """Trains the architecture parameters; weights and their statistics stay.

  Batch norm uses the batch's own statistics, as in a weight step, and leaves
  the running ones alone.

  Args:
    state: state of the search.
    batch: images and labels of the held-out split.
    module: module of the search space.
    valid: bool[e, k], the candidates that exist.
    tx: optimizer of the architecture, such as `optimizers.arch_optimizer`.
    costs: costs of the objective, each with a table.
    mode: `full` or `two`, see `gates`.
    label_smoothing: smoothing of the labels.
    grad_accum: number of parts of the batch, in memory one after the other.
    draw: function that draws gates; the step follows their gradient in alpha.
    terms: more terms of the objective, added to it.
    mesh: devices that share the batch; None for one device.
    path_per_device: whether each device of the mesh draws gates of its own. In
      mode `two` the probability that is kept is then that of all candidates of
      an edge that are in some device's pair.

  Raises:
    ValueError: a black-box cost.
  """
  own = path_per_device and mesh is not None
  gradients = functools.partial(
    arch_gradients,
    valid=valid,
    mode=mode,
    draw=draw,
    grad_accum=grad_accum,
    module=module,
    costs=costs,
    terms=terms,
    label_smoothing=label_smoothing,
  )
  on_shard = functools.partial(_on_shard, gradients, own)
  step = over_devices(on_shard, mesh, PATH if own else DATA)
  variables = {"params": state.params, "batch_stats": state.batch_stats}
  inputs = state.arch, variables, state.multipliers, state.step_key(ARCH_STREAM)
  grads, involved, metrics = step(inputs, batch)
  probs = gates_lib.probabilities(state.arch, valid)
  expected = [cost.need_table().expected(probs) for cost in costs]
  derived = functools.partial(objective_lib.derived_costs, costs, valid)
  state, of_costs = update_arch(
    state, grads, involved, valid, tx, costs, expected, derived
  )
  return state, {**metrics, **of_costs}


def _on_shard(
  gradients: Callable, own: bool, replicated: tuple, batch: dict
) -> tuple[jax.Array, jax.Array, Metrics]:
  """A device's part of a step; all devices return the same.

  Returns:
    Gradients of all devices, the candidates that took part on any, metrics.
  """
  *of_search, key = replicated
  if not own:
    # The gradients are sums over the devices already, by `psum_backward`.
    grads, involved, metrics = gradients(*of_search, key, batch)
    return grads, involved, psum(metrics)
  key = jax.random.fold_in(key, lax.axis_index(PATH))
  grads, involved, metrics = gradients(*of_search, key, batch)
  grads, involved = lax.pmean(grads, PATH), lax.pmax(involved, PATH)
  return grads, involved, lax.psum(metrics, PATH)


def arch_gradients(
  arch: jax.Array,
  variables: dict,
  multipliers: jax.Array,
  key: jax.Array,
  batch: dict,
  *,
  valid: jax.Array,
  mode: str,
  grad_accum: int,
  draw: gates_lib.Draw = gates_lib.draw,
  **of_loss: Any,
) -> tuple[jax.Array, jax.Array, Metrics]:
  """Gradients of the objective in alpha, through the gates of one draw.

  Args:
    arch: f[e, k], alpha.
    variables, multipliers: as for `arch_loss`.
    key: PRNG key of the draw.
    batch: images and labels; or a device's share of them, of which the metrics
      are then, while all devices have the same gradient.
    valid, mode, grad_accum, draw: as for `arch_step`.
    of_loss: the other keyword arguments of `arch_loss`.

  Returns:
    The gradient f[e, k], the candidates bool[e, k] that took part, metrics.
  """

  def gates_of(arch: jax.Array) -> tuple[tuple, gates_lib.Gates]:
    gates = draw(key, arch, valid, mode)
    return (gates.gate, gates.probs), gates

  # Drawn once: all parts of the batch run the same path.
  differentiable, pull_back, gates = jax.vjp(gates_of, arch, has_aux=True)

  def of_part(
    part: dict, _: None, key: jax.Array
  ) -> tuple[jax.Array, tuple[None, Metrics]]:
    def loss_of(gate: jax.Array, probs: jax.Array) -> tuple[jax.Array, Metrics]:
      drawn = gates._replace(gate=gate, probs=probs)
      return arch_loss(drawn, variables, multipliers, part, key, **of_loss)

    gradients = jax.grad(loss_of, argnums=(0, 1), has_aux=True)
    in_gates, metrics = gradients(*differentiable)
    return pull_back(in_gates)[0], (None, metrics)

  grads, (_, metrics) = in_parts(
    of_part, grad_accum, batch, None, jax.random.fold_in(key, 1)
  )
  return grads, gates.involved, metrics


def arch_loss(
  gates: gates_lib.Gates,
  variables: dict,
  multipliers: jax.Array,
  batch: dict,
  key: jax.Array,
  *,
  module: nn.Module,
  costs: Sequence[objective_lib.Cost],
  label_smoothing: float,
  terms: Sequence[objective_lib.Term] = (),
) -> tuple[jax.Array, Metrics]:
  """What an architecture step minimises, f[], and metrics of the batch.

  Args:
    gates: the drawn gates; the loss has a gradient in `gate` and `probs`.
    variables: {'params', 'batch_stats'} of the module.
    multipliers: f[m], those of the costs.
    batch: images and labels.
    key: PRNG key for dropout.
    module, costs, label_smoothing, terms: as for `arch_step`.
  """
  # Devices have parts of the batch, so gradients of the gates are summed over
  # them. The costs are the same on all devices: their gradients are not.
  logits, _ = module.apply(
    variables,
    batch["image"],
    train=True,
    gates=gates._replace(gate=psum_backward(gates.gate)),
    mutable=["batch_stats"],
    rngs={"dropout": key},
  )
  loss = cross_entropy(logits, batch, label_smoothing)
  metrics = classification(logits, batch, loss)
  expected = [cost.need_table().expected(gates.probs) for cost in costs]
  total = objective_lib.loss(costs, loss, expected, multipliers)
  for term in terms:
    total += term(gates.probs)
  return total, {f"arch_{name}": mean for name, mean in metrics.items()}


def update_arch(
  state: SearchState,
  grads: jax.Array,
  involved: jax.Array | bool,
  valid: jax.Array,
  tx: optax.GradientTransformationExtraArgs,
  costs: Sequence[objective_lib.Cost],
  expected: objective_lib.PerCost,
  derived: Callable[[jax.Array], objective_lib.PerCost],
) -> tuple[SearchState, Metrics]:
  """Moves the architecture, then the multipliers of the costs.

  Args:
    state: state of the search.
    grads: f[e, k], gradients in alpha.
    involved: bool[e, k], the candidates that took part; True for all.
    valid: bool[e, k], the candidates that exist.
    tx: optimizer of the architecture.
    costs: costs of the objective.
    expected: f[] for each cost, its expectation under the probabilities.
    derived: from the new alpha f[e, k] to what the network that would be
      derived costs, f[] for each cost.
  """
  updates, opt_state = tx.update(
    grads, state.arch_opt_state, state.arch, drawn=involved, involved=involved
  )
  arch = optax.apply_updates(state.arch, updates)
  values = derived(arch)
  multipliers = objective_lib.next_multipliers(costs, state.multipliers, values)
  metrics = objective_lib.cost_metrics(costs, expected, values, multipliers)
  metrics["entropy"] = once(jnp.mean(gates_lib.entropy(arch, valid)))
  state = state.replace(
    arch=arch, arch_opt_state=opt_state, multipliers=multipliers
  )
  return state, metrics
