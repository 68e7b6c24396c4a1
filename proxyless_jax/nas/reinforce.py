"""The architecture by REINFORCE: for costs that have no gradient too.

Draw n paths g_i, evaluate each on one held-out batch, and follow

    (1 / n) sum_i (R_i - b) * grad log p(g_i)  +  weight * grad H,

where R is `objective.reward`, H the entropy of the draw in nats, summed over
the edges, and the baseline b a moving average of the rewards of the updates
before, so that it is independent of the draws (Williams, Machine Learning 8,
1992; ProxylessNAS, section 3.3):

    b <- decay * b + (1 - decay) * mean_i R_i

The first update has none before: its b is its own mean, which leaves the
gradient's direction as it is (and its length at (n - 1) / n of it). Edges
with one candidate have probability one: they add nothing to log p or H.

`sample_step` and `update_step` are the halves between which black-box costs are
called on the drawn networks; `reinforce_step` is both in one.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas import objective as objective_lib
from proxyless_jax.nas.arch_step import update_arch
from proxyless_jax.nas.evaluate import evaluate_path
from proxyless_jax.nas.state import ARCH_STREAM, SearchState
from proxyless_jax.parallel.collectives import over_devices, psum
from proxyless_jax.training.metrics import Metrics, once


class Draws(NamedTuple):
  """Drawn paths, and their accuracy on a batch.

  Attributes:
    paths: i32[n + 1, e]: the n drawn ones, then that of argmax.
    accuracy: f32[n], top-1 of the drawn ones.
  """

  paths: jax.Array
  accuracy: jax.Array


def sample_step(
  state: SearchState,
  batch: dict,
  *,
  module: nn.Module,
  valid: jax.Array,
  samples: int,
  label_smoothing: float,
  grad_accum: int,
  mesh: Mesh | None = None,
) -> tuple[Draws, Metrics]:
  """Draws paths, and evaluates one after the other; the state stays.

  Batch norm uses the batch's own statistics, as in all steps of a search.

  Args:
    state: state of the search.
    batch: images and labels of the held-out split.
    module: module of the search space.
    valid: bool[e, k], the candidates that exist.
    samples: n, number of paths.
    label_smoothing: smoothing of the labels, in the loss that is shown.
    grad_accum: number of parts of the batch, in memory one after the other.
    mesh: devices that share the batch; None for one device.
  """
  draw_key, dropout_key = jax.random.split(state.step_key(ARCH_STREAM))
  drawn = draw_paths(draw_key, state.arch, valid, samples)
  evaluate = functools.partial(
    evaluate_path,
    module=module,
    valid=valid,
    label_smoothing=label_smoothing,
    grad_accum=grad_accum,
  )

  def on_shard(replicated: tuple, batch: dict) -> Metrics:
    variables, drawn, key = replicated

    def of_path(_: None, path: jax.Array) -> tuple[None, Metrics]:
      return None, evaluate(path, variables, batch, key)

    return psum(lax.scan(of_path, None, drawn)[1])

  variables = {"params": state.params, "batch_stats": state.batch_stats}
  replicated = variables, drawn, dropout_key
  metrics = over_devices(on_shard, mesh)(replicated, batch)
  top1 = metrics["top1"]
  accuracy = top1.total / jnp.maximum(top1.count, 1.0)
  derived = gates_lib.most_probable(state.arch, valid)
  paths = jnp.concatenate([drawn, derived[None]])
  sums = jax.tree.map(jnp.sum, metrics)
  metrics = {f"arch_{name}": mean for name, mean in sums.items()}
  return Draws(paths, accuracy), metrics


def draw_paths(
  key: jax.Array, arch: jax.Array, valid: jax.Array, samples: int
) -> jax.Array:
  """Independent draws from p: i32[n, e].

  Args:
    key: PRNG key.
    arch: f[e, k], alpha.
    valid: bool[e, k], the candidates that exist.
    samples: n, number of paths.
  """
  logits = gates_lib.masked(arch, valid)
  shape = (samples, len(arch))
  return jax.random.categorical(key, logits, shape=shape).astype(jnp.int32)


def update_step(
  state: SearchState,
  draws: Draws,
  called: Mapping[str, jax.Array],
  *,
  valid: jax.Array,
  tx: optax.GradientTransformationExtraArgs,
  costs: Sequence[objective_lib.Cost],
  baseline_decay: float,
  entropy_weight: float,
  terms: Sequence[objective_lib.Term] = (),
) -> tuple[SearchState, Metrics]:
  """Moves the architecture, the baseline and the multipliers.

  Args:
    state: state of the search.
    draws: result of `sample_step` on that state.
    called: f32[n + 1], what the paths of the draws cost, by the names of the
      black-box costs.
    valid: bool[e, k], the candidates that exist.
    tx: optimizer of the architecture, such as `optimizers.arch_optimizer`.
    costs: costs of the reward.
    baseline_decay: decay of the moving average of rewards.
    entropy_weight: weight of the entropy bonus.
    terms: more terms of the objective, added to what is minimised.
  """
  values = _values(costs, draws.paths, called)
  rewards = objective_lib.reward(
    costs, draws.accuracy, values[:-1], state.multipliers
  )
  mean = jnp.mean(rewards)
  baseline = jnp.where(state.updates == 0, mean, state.baseline)
  paths, advantages = draws.paths[:-1], rewards - baseline
  grads = jax.grad(surrogate)(
    state.arch, valid, paths, advantages, entropy_weight, terms
  )
  expected = _expected(costs, state, valid, values)
  # Known before the update: the last path is that of the largest alpha.
  of_derived = values[-1]
  state, metrics = update_arch(
    state, grads, True, valid, tx, costs, expected, lambda _: of_derived
  )
  metrics["reward"], metrics["baseline"] = once(mean), once(baseline)
  state = state.replace(
    baseline=baseline_decay * baseline + (1.0 - baseline_decay) * mean,
    updates=state.updates + 1,
  )
  return state, metrics


def surrogate(
  arch: jax.Array,
  valid: jax.Array,
  paths: jax.Array,
  advantages: jax.Array,
  entropy_weight: float,
  terms: Sequence[objective_lib.Term] = (),
) -> jax.Array:
  """A function f[] whose gradient in `arch` is the negative of the estimator.

  Args:
    arch: f[e, k], alpha.
    valid: bool[e, k], the candidates that exist.
    paths: i32[n, e], the draws.
    advantages: f[n], rewards minus the baseline.
    entropy_weight: weight of the entropy bonus.
    terms: more terms of the objective, added to it.
  """
  advantages = lax.stop_gradient(advantages)
  log_probs = gates_lib.log_probability(arch, valid, paths)
  bonus = jnp.sum(gates_lib.entropy(arch, valid))
  total = -jnp.mean(advantages * log_probs) - entropy_weight * bonus
  for term in terms:
    total += term(gates_lib.probabilities(arch, valid))
  return total


def reinforce_step(
  state: SearchState,
  batch: dict,
  *,
  module: nn.Module,
  valid: jax.Array,
  samples: int,
  label_smoothing: float,
  grad_accum: int,
  mesh: Mesh | None = None,
  **update: Any,
) -> tuple[SearchState, Metrics]:
  """Both halves in one, where every cost has a table.

  Args:
    state, batch, module, valid, samples, label_smoothing, grad_accum, mesh: see
      `sample_step`.
    update: the other keyword arguments of `update_step`.
  """
  draws, metrics = sample_step(
    state,
    batch,
    module=module,
    valid=valid,
    samples=samples,
    label_smoothing=label_smoothing,
    grad_accum=grad_accum,
    mesh=mesh,
  )
  state, more = update_step(state, draws, {}, valid=valid, **update)
  return state, {**metrics, **more}


def _values(
  costs: Sequence[objective_lib.Cost],
  paths: jax.Array,
  called: Mapping[str, jax.Array],
) -> jax.Array:
  """What paths cost: f32[n, m]."""
  values = [
    called[cost.name] if cost.table is None else cost.table.of_path(paths)
    for cost in costs
  ]
  if not values:
    return jnp.zeros((len(paths), 0), jnp.float32)
  return jnp.stack(values, axis=1)


def _expected(
  costs: Sequence[objective_lib.Cost],
  state: SearchState,
  valid: jax.Array,
  values: jax.Array,
) -> list[jax.Array]:
  """E[cost], by the draws' mean where a cost has no table: f[] each."""
  probs = gates_lib.probabilities(state.arch, valid)
  return [
    jnp.mean(values[:-1, i])
    if cost.table is None
    else cost.table.expected(probs)
    for i, cost in enumerate(costs)
  ]
