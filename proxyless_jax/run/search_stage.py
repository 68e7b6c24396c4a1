"""The search as a stage of a run, and what is derived from its end."""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from proxyless_jax.data import train_batches
from proxyless_jax.hardware import split_quantity
from proxyless_jax.nas import gates, objective, own_paths, reinforce
from proxyless_jax.nas.arch_step import arch_step
from proxyless_jax.nas.derive import ROUNDING, derive
from proxyless_jax.nas.optimizers import arch_optimizer, search_schedule
from proxyless_jax.nas.state import search_state
from proxyless_jax.nas.weight_step import weight_step
from proxyless_jax.nn import build, init
from proxyless_jax.parallel.mesh import (
  host_share,
  jit_step,
  make_mesh,
  place,
  to_devices,
)
from proxyless_jax.run.black_box import Calls
from proxyless_jax.run.config.options import Options
from proxyless_jax.run.config.sections import CostOptions, SearchOptions
from proxyless_jax.run.config.space import check_searched
from proxyless_jax.run.costs import (
  constraints,
  make_costs,
  missed_targets,
)
from proxyless_jax.run.loop import Stage
from proxyless_jax.space import Network
from proxyless_jax.training.metrics import Metrics
from proxyless_jax.training.sgd import weight_optimizer

METRICS = (
  *("loss", "top1", "top5", "arch_loss", "arch_top1", "arch_top5"),
  *("entropy", "reward", "baseline"),
)
# Of each cost, followed by its name.
OF_COST = ("expected", "derived", "multiplier")


def search_stage(
  options: Options, dataset, space: Network, calls: Calls
) -> Stage:
  """The stage of a search: warm-up, then weight and architecture steps.

  Args:
    options: of the run.
    dataset: whose `weights` and `arch` parts it learns.
    space: what is searched.
    calls: the costs that only a call can tell.

  Raises:
    ValueError: costs do not fit the space, or no step would train the
      architecture, or no architecture keeps all targets.
  """
  search, arch = options.search, options.search.arch
  check_searched(options.space, space)
  costs = make_costs(search.costs, space)
  warmup, begin, end = _schedule(search, len(dataset.weights) / search.batch)
  tx = _optimizer(search, warmup, end - warmup)
  arch_tx = arch_optimizer(
    arch.lr, b1=arch.b1, b2=arch.b2, weight_decay=arch.weight_decay
  )
  module = build(space, dtype=options.compute_dtype)
  valid = gates.valid_candidates(space)
  any_path = derive(np.zeros(valid.shape), valid, constraints(costs))
  missed = missed_targets(costs, space, any_path)
  if missed:
    raise ValueError(f"{missed}: change a reference or a form, or the space")
  mesh, sharded = make_mesh(), options.run.shard_state
  jitted = functools.partial(jit_step, mesh=mesh, sharded=sharded)
  of_weights = jitted(_weight_step(search, module, valid, tx, mesh))
  of_arch = _arch_step(
    search, module, valid, arch_tx, costs, calls, mesh, jitted
  )
  iterators = _iterators(options, dataset)
  init_key, key = jax.random.split(jax.random.key(options.seed))
  return Stage(
    name="search",
    steps=end,
    batch=search.batch,
    init=lambda: place(
      search_state(
        key,
        init(module, init_key),
        valid,
        tx,
        arch_tx,
        arch.init_scale,
        costs=len(costs),
      ),
      mesh,
      sharded,
    ),
    iterators=iterators,
    metrics=(*METRICS, *(f"{m}_{c.name}" for m in OF_COST for c in costs)),
    advance=_advance(of_weights, of_arch, iterators, mesh, begin, arch.every),
    units=_units(costs),
  )


def _units(costs) -> dict[str, str]:
  return {
    f"{metric}_{cost.name}": cost.table.unit
    for metric in ("expected", "derived")
    for cost in costs
    if cost.table is not None
  }


def _weight_step(search: SearchOptions, module, valid, tx, mesh):
  """The step that trains the weights."""
  own = search.path_per_device and mesh
  return functools.partial(
    own_paths.weight_step if own else weight_step,
    module=module,
    valid=valid,
    tx=tx,
    label_smoothing=search.label_smoothing,
    grad_accum=search.grad_accum,
    mesh=mesh,
  )


def _arch_step(
  search: SearchOptions, module, valid, tx, costs, calls: Calls, mesh, jitted
):
  """The step that trains the architecture, compiled by `jitted`."""
  arch = search.arch
  draw = dict(
    module=module, valid=valid, label_smoothing=search.label_smoothing
  )
  draw |= dict(grad_accum=arch.grad_accum, mesh=mesh)
  update = dict(valid=valid, tx=tx, costs=costs)
  if arch.algorithm == "gradient":
    own = search.path_per_device and mesh
    step = own_paths.arch_step if own else arch_step
    return jitted(functools.partial(step, mode=arch.mode, **(draw | update)))
  draw["samples"] = arch.samples
  update["baseline_decay"] = arch.baseline_decay
  update["entropy_weight"] = arch.entropy_weight
  if all(cost.table is not None for cost in costs):
    return jitted(
      functools.partial(reinforce.reinforce_step, **(draw | update))
    )
  sample = jax.jit(functools.partial(reinforce.sample_step, **draw))
  update_step = jitted(functools.partial(reinforce.update_step, **update))

  def halves(current, batch):
    draws, metrics = sample(current, batch)
    current, more = update_step(current, draws, calls(draws.paths))
    return current, {**metrics, **more}

  return halves


def _optimizer(search: SearchOptions, warmup: int, main: int):
  scale = search.batch / search.lr_batch
  rates = search.warmup_lr * scale, warmup, search.lr * scale, main
  return weight_optimizer(
    search_schedule(*rates),
    momentum=search.momentum,
    nesterov=search.nesterov,
    weight_decay=search.weight_decay,
    kernels_only=False,
  )


def _schedule(search: SearchOptions, epoch: float) -> tuple[int, int, int]:
  """The steps where warm-up ends, the architecture's begin, the search ends.

  Args:
    search: whose epochs they are.
    epoch: steps per epoch.
  """
  warmup = round(search.warmup_epochs * epoch)
  begin = warmup + math.ceil(search.arch.after_epochs * epoch)
  end = warmup + max(1, round(search.epochs * epoch))
  if begin >= end:
    raise ValueError(
      f"search.arch.after_epochs = {search.arch.after_epochs}: expected below "
      f"search.epochs = {search.epochs} by a step or more, else no step trains "
      "the architecture"
    )
  return warmup, begin, end


def _iterators(options: Options, dataset) -> dict[str, Any]:
  """As released: no cutout, and held-out images as those of the test."""
  data = dataclasses.replace(options.data, cutout=0)
  search, seed, share = options.search, options.seed, host_share()
  return {
    "weights": train_batches(
      dataset.weights, data, batch=search.batch, seed=seed, share=share
    ),
    "arch": train_batches(
      dataset.arch,
      data,
      batch=search.arch.batch,
      seed=seed + 1,
      augmented=False,
      share=share,
    ),
  }


def _advance(weight_step, arch_step, iterators, mesh, begin: int, every: int):
  """Takes the search from step to step: weights, then the architecture."""

  def advance(current, step: int) -> tuple[Any, Metrics]:
    batch = to_devices(next(iterators["weights"]), mesh)
    current, metrics = weight_step(current, batch)
    if step >= begin and (step - begin) % every == 0:
      batch = to_devices(next(iterators["arch"]), mesh)
      current, new = arch_step(current, batch)
      metrics = {**metrics, **new}
    return current, metrics

  return advance


def derive_network(
  options: Options,
  space: Network,
  costs: Sequence[objective.Cost],
  arch: np.ndarray,
  calls: Calls,
) -> tuple[Network, dict]:
  """The architecture that a search found.

  Argmax of every edge; where that misses a target, the most probable
  architecture that keeps all of them. Targets of costs that only a call can
  tell steer the search alone.

  Returns:
    The network, and what is to be said of it: its costs, whether they keep
    their targets, and on how many edges it differs from argmax.
  """
  valid, limits = gates.valid_candidates(space), constraints(costs)
  index = derive(arch, valid, limits)
  network = space.choose(index.tolist())
  missed = missed_targets(costs, space, index)
  if missed:
    warnings.warn(missed, stacklevel=2)
  more = {}
  for cost in costs:
    more |= _found(cost, options.search.costs[cost.name], network, calls)
  more["edges_off_argmax"] = int(np.sum(index != derive(arch, valid)))
  return network, more


def _found(cost, options: CostOptions, network: Network, calls: Calls) -> dict:
  """What the result says of a cost."""
  name = cost.name
  if cost.table is None:
    _, unit = split_quantity(options.reference)
    found = {f"cost_{name}": calls.of(name, network), f"unit_{name}": unit}
  else:
    found = {
      f"cost_{name}": cost.table.exact(network),
      f"unit_{name}": cost.table.unit,
      f"source_{name}": cost.table.source,
      f"largest_{name}": cost.table.max_cost,
    }
  if isinstance(cost.form, objective.Target):
    low, high, value = cost.form.low, cost.form.high, found[f"cost_{name}"]
    found[f"target_{name}"] = cost.form.target
    found[f"met_{name}"] = (
      low * (1 - ROUNDING) <= value <= high * (1 + ROUNDING)
    )
  return found
