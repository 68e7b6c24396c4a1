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

`sample_step` and `update_step` are the halves between which a function can
be asked what the drawn networks cost; `reinforce_step` is both in one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas import objective as objective_lib
from proxyless_jax.nas.objective import cost_metrics
from proxyless_jax.nas.state import SearchState
from proxyless_jax.parallel.collectives import over_devices, psum
from proxyless_jax.training.accumulation import in_parts
from proxyless_jax.training.metrics import (
  Metrics,
  classification,
  cross_entropy,
  once,
)
from proxyless_jax.training.state import ARCH_STREAM, step_key


class Draws(NamedTuple):
  """What a batch said of drawn paths.

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
    state: of the search.
    batch: of the held-out split.
    module: of the space.
    valid: bool[e, k], which candidates exist.
    samples: n, how many paths.
    label_smoothing: of the labels, in the loss that is shown.
    grad_accum: parts of the batch, in memory one after the other.
    mesh: of the devices that share the batch; None for one device.
  """
  draw_key, dropout_key = jax.random.split(step_key(state, ARCH_STREAM))
  drawn = draw_paths(draw_key, state.arch, valid, samples)

  def share(held, batch):
    variables, drawn, key = held

    def evaluate(_, path):
      def of_part(part, carry, key):
        logits, _ = module.apply(
          variables,
          part["image"],
          train=True,
          gates=gates_lib.path(path, valid),
          mutable=["batch_stats"],
          rngs={"dropout": key},
        )
        loss = cross_entropy(logits, part, label_smoothing)
        return None, (carry, classification(logits, part, loss))

      _, (_, metrics) = in_parts(of_part, grad_accum, batch, None, key)
      return None, metrics

    return psum(lax.scan(evaluate, None, drawn)[1])

  variables = {"params": state.params, "batch_stats": state.batch_stats}
  held = variables, drawn, dropout_key
  metrics = over_devices(share, mesh)(held, batch)
  top1 = metrics["top1"]
  accuracy = top1.total / jnp.maximum(top1.count, 1.0)
  derived = gates_lib.most_probable(state.arch, valid)
  paths = jnp.concatenate([drawn, derived[None]])
  sums = jax.tree.map(jnp.sum, metrics)
  metrics = {f"arch_{name}": mean for name, mean in sums.items()}
  return Draws(paths, accuracy), metrics


def draw_paths(key, arch, valid, samples: int) -> jax.Array:
  """Independent draws from p: i32[n, e]."""
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
) -> tuple[SearchState, Metrics]:
  """Moves the architecture, the baseline and the multipliers.

  Args:
    state: of the search.
    draws: of `sample_step` on that state.
    called: f32[n + 1], what the paths of the draws cost, by the names of the
      costs that have no table.
    valid: bool[e, k], which candidates exist.
    tx: over the architecture, an `optimizers.arch_optimizer`.
    costs: of the reward.
    baseline_decay: of the moving average of rewards.
    entropy_weight: of the entropy bonus.
  """
  values = _values(costs, draws.paths, called)
  rewards = objective_lib.reward(
    costs, draws.accuracy, values[:-1], state.multipliers
  )
  mean = jnp.mean(rewards)
  baseline = jnp.where(state.updates == 0, mean, state.baseline)
  grads = jax.grad(surrogate)(
    state.arch, valid, draws.paths[:-1], rewards - baseline, entropy_weight
  )
  updates, opt_state = tx.update(
    grads, state.arch_opt_state, state.arch, drawn=True, involved=True
  )
  arch = optax.apply_updates(state.arch, updates)
  multipliers = objective_lib.next_multipliers(
    costs, state.multipliers, values[-1]
  )
  expected = _expected(costs, state, valid, values)
  metrics = cost_metrics(costs, expected, values[-1], multipliers)
  metrics["reward"], metrics["baseline"] = once(mean), once(baseline)
  metrics["entropy"] = once(jnp.mean(gates_lib.entropy(arch, valid)))
  state = state.replace(
    arch=arch,
    arch_opt_state=opt_state,
    multipliers=multipliers,
    baseline=baseline_decay * baseline + (1.0 - baseline_decay) * mean,
    updates=state.updates + 1,
  )
  return state, metrics


def surrogate(arch, valid, paths, advantages, entropy_weight: float):
  """What has the estimator's negative as its gradient in `arch`: f[]."""
  advantages = lax.stop_gradient(advantages)
  log_probs = gates_lib.log_probability(arch, valid, paths)
  bonus = jnp.sum(gates_lib.entropy(arch, valid))
  return -jnp.mean(advantages * log_probs) - entropy_weight * bonus


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
  **update,
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


def _values(costs, paths, called) -> jax.Array:
  """What paths cost: f32[n, m]."""
  values = [
    called[cost.name] if cost.table is None else cost.table.of_path(paths)
    for cost in costs
  ]
  if not values:
    return jnp.zeros((len(paths), 0), jnp.float32)
  return jnp.stack(values, axis=1)


def _expected(costs, state, valid, values) -> list[jax.Array]:
  """E[cost], by the draws' mean where a cost has no table: f[] each."""
  probs = gates_lib.probabilities(state.arch, valid)
  return [
    jnp.mean(values[:-1, i])
    if cost.table is None
    else cost.table.expected(probs)
    for i, cost in enumerate(costs)
  ]
