"""The search as a stage of a run."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax

from proxyless_jax.data import DataOptions, train_batches
from proxyless_jax.data.dataset import Dataset, Subset
from proxyless_jax.nas import gates, objective, reinforce
from proxyless_jax.nas.arch_step import arch_step
from proxyless_jax.nas.optimizers import (
  arch_optimizer,
  on_involved,
  search_schedule,
)
from proxyless_jax.nas.state import search_state
from proxyless_jax.nas.validate import check_draw, check_optimizer, check_terms
from proxyless_jax.nas.weight_step import weight_step
from proxyless_jax.nn import build, init
from proxyless_jax.parallel.mesh import (
  host_share,
  jit_step,
  make_mesh,
  place,
  to_devices,
)
from proxyless_jax.report import Longer
from proxyless_jax.run.black_box import Calls
from proxyless_jax.run.config.options import Options
from proxyless_jax.run.config.sections import ArchOptions, SearchOptions
from proxyless_jax.run.lengths import search_lengths
from proxyless_jax.run.loop import Searched, Stage
from proxyless_jax.space import Network
from proxyless_jax.training.metrics import Metrics

METRICS = (
  *("loss", "top1", "top5", "arch_loss", "arch_top1", "arch_top5"),
  *("entropy", "reward", "baseline"),
)
# Metrics of each cost, whose name follows.
OF_COST = ("expected", "derived", "multiplier")
WITH_ARCH = "that trains the architecture"


def search_stage(
  options: Options,
  dataset: Dataset,
  space: Network,
  costs: Sequence[objective.Cost],
  calls: Calls,
  *,
  draw: gates.Draw = gates.draw,
  terms: Sequence[objective.Term] = (),
  tx: optax.GradientTransformation | None = None,
  arch_tx: optax.GradientTransformation | None = None,
) -> Stage:
  """The stage of a search: warm-up, then weight and architecture steps.

  A resumed search must be given the same functions and optimizers again:
  the state in its checkpoints has the shape that the optimizers gave it.

  Args:
    options: options of the run.
    dataset: images, of which the parts `weights` and `arch` are learned from.
    space: the search space.
    costs: costs of the objective, with their tables.
    calls: the black-box costs.
    draw: function that draws the gates of both steps, see `nas.gates.draw`.
      REINFORCE draws its own paths from softmax(alpha), as its gradient
      assumes.
    terms: more terms of what the architecture minimises, see
      `nas.objective.Term`.
    tx: optimizer of the weights, with its schedule, instead of the options';
      its state must be as `nas.transforms.drawn_only` asks.
    arch_tx: optimizer of the architecture, likewise.

  Raises:
    ValueError: no step would train the architecture; or a function or an
      optimizer of your own is not what it should be.
  """
  search, arch = options.search, options.search.arch
  weights, held_out = _parts(dataset)
  module = build(space, dtype=options.compute_dtype)
  valid = gates.valid_candidates(space)
  warmup, begin, end = search_lengths(
    search, len(weights), valid.shape[1], options.derive.method
  )
  _check_trained(begin < end, terms, arch_tx)
  _check_own(draw, terms, tx, arch_tx, module, valid, arch.mode)
  # Of a warm-up alone, the schedule after it has no step.
  tx = tx or _optimizer(search, warmup, max(1, end - warmup))
  arch_tx = on_involved(arch_tx) if arch_tx else _arch_optimizer(arch)
  mesh, sharded = make_mesh(), options.run.shard_state
  jitted = functools.partial(jit_step, mesh=mesh, sharded=sharded)
  common = dict(module=module, valid=valid, draw=draw, mesh=mesh)
  update = dict(tx=arch_tx, costs=costs, terms=terms)
  of_weights = jitted(_weight_step(search, tx, **common))
  of_arch = _arch_step(search, calls, update, jitted, **common)
  iterators = _iterators(search, options.data, weights, held_out, options.seed)
  first = functools.partial(
    _first_state, options.seed, module, valid, tx, arch_tx, arch.init_scale
  )
  trains_arch = range(begin, end, arch.every)
  alpha = functools.partial(_alpha, mesh=mesh)
  return Stage(
    name="search",
    steps=end,
    batch=search.batch,
    init=lambda: place(first(len(costs)), mesh, sharded),
    iterators=iterators,
    metrics=_metrics(costs),
    advance=_advance(of_weights, of_arch, iterators, mesh, trains_arch),
    units=_units(costs),
    # Without a step that trains alpha, there is nothing to record.
    searched=Searched(space, alpha) if trains_arch else None,
    longer=Longer(WITH_ARCH, trains_arch) if trains_arch else None,
  )


def _alpha(state, mesh) -> np.ndarray:
  arch = state.arch
  # Of several hosts, each has a part of a sharded state.
  if not arch.is_fully_replicated:
    arch = place(arch, mesh)
  return np.asarray(arch)


def _check_trained(trains: bool, terms, arch_tx) -> None:
  """Raises a ValueError for what only architecture steps use, without them."""
  for name, own in (("terms", terms), ("arch_tx", arch_tx)):
    if own and not trains:
      raise ValueError(
        f"{name}: expected none with this search.epochs and derive.method, "
        "since no step trains the architecture: set search.epochs above 0"
      )


def _check_own(draw, terms, tx, arch_tx, module, valid, mode: str) -> None:
  """Raises a ValueError for functions and optimizers that steps cannot use."""
  check_draw(draw, valid, mode)
  check_terms(terms, valid)
  if tx is not None:
    # For the shapes alone: parts of `init` run in NumPy, and cannot be traced.
    params = init(module, jax.random.key(0))["params"]
    check_optimizer("tx", tx, params)
  if arch_tx is not None:
    logits = jax.ShapeDtypeStruct(valid.shape, np.float32)
    check_optimizer("arch_tx", arch_tx, logits)


def _first_state(
  seed: int, module, valid, tx, arch_tx, scale: float, costs: int
):
  init_key, key = jax.random.split(jax.random.key(seed))
  variables = init(module, init_key)
  return search_state(key, variables, valid, tx, arch_tx, scale, costs)


def _metrics(costs) -> tuple[str, ...]:
  return (*METRICS, *(f"{m}_{c.name}" for m in OF_COST for c in costs))


def _units(costs) -> dict[str, str]:
  return {
    f"{metric}_{cost.name}": cost.table.unit
    for metric in ("expected", "derived")
    for cost in costs
    if cost.table is not None
  }


def _weight_step(search: SearchOptions, tx, **common):
  """The step that trains the weights."""
  return functools.partial(
    weight_step,
    tx=tx,
    label_smoothing=search.label_smoothing,
    grad_accum=search.grad_accum,
    paths=search.paths,
    path_per_device=search.path_per_device,
    **common,
  )


def _arch_step(
  search: SearchOptions, calls: Calls, update: dict, jitted, *, draw, **common
):
  """The step that trains the architecture, compiled by `jitted`.

  Args:
    search: options of the search.
    calls: the black-box costs.
    update: the arguments `tx`, `costs` and `terms` of the steps.
    jitted: function that compiles a step of (state, batch).
    draw: function that draws gates.
    common: the arguments `module`, `valid` and `mesh` of the steps.
  """
  arch = search.arch
  common["label_smoothing"] = search.label_smoothing
  common["grad_accum"] = arch.grad_accum
  if arch.algorithm == "reinforce":
    return _reinforce_step(arch, calls, update, jitted, **common)
  step = functools.partial(
    arch_step,
    mode=arch.mode,
    path_per_device=search.path_per_device,
    draw=draw,
    **common,
    **update,
  )
  return jitted(step)


def _reinforce_step(
  arch: ArchOptions, calls: Calls, update: dict, jitted, **common
):
  """The step of REINFORCE; black-box costs are called between its halves."""
  common["samples"] = arch.samples
  update = {
    **update,
    "baseline_decay": arch.baseline_decay,
    "entropy_weight": arch.entropy_weight,
  }
  if all(cost.table is not None for cost in update["costs"]):
    return jitted(
      functools.partial(reinforce.reinforce_step, **common, **update)
    )
  sample = jax.jit(functools.partial(reinforce.sample_step, **common))
  learn = jitted(
    functools.partial(reinforce.update_step, valid=common["valid"], **update)
  )

  def step(state, batch):
    draws, metrics = sample(state, batch)
    state, more = learn(state, draws, calls(draws.paths))
    return state, {**metrics, **more}

  return step


def _optimizer(search: SearchOptions, warmup: int, main: int):
  scale = search.batch / search.lr_batch
  rates = search.warmup_lr * scale, warmup, search.lr * scale, main
  return search.tx(search_schedule(*rates), kernels_only=False)


def _arch_optimizer(arch: ArchOptions):
  return arch_optimizer(
    arch.lr,
    optimizer=arch.optimizer,
    b1=arch.b1,
    b2=arch.b2,
    weight_decay=arch.weight_decay,
  )


def _parts(dataset: Dataset) -> tuple[Subset, Subset]:
  """The images for the weights, and those for the architecture."""
  # What is loaded for a search has all parts.
  assert dataset.weights is not None and dataset.arch is not None
  return dataset.weights, dataset.arch


def _iterators(
  search: SearchOptions,
  data: DataOptions,
  weights: Subset,
  held_out: Subset,
  seed: int,
) -> dict[str, Any]:
  """As released: no cutout, and held-out images as those of the test."""
  data, share = dataclasses.replace(data, cutout=0), host_share()
  return {
    "weights": train_batches(
      weights, data, batch=search.batch, seed=seed, share=share
    ),
    "arch": train_batches(
      held_out,
      data,
      batch=search.arch.batch,
      seed=seed + 1,
      augmented=False,
      share=share,
    ),
  }


def _advance(weight_step, arch_step, iterators, mesh, trains_arch: range):
  """Takes the search from step to step: weights, then the architecture."""

  def advance(state, step: int) -> tuple[Any, Metrics]:
    batch = to_devices(next(iterators["weights"]), mesh)
    state, metrics = weight_step(state, batch)
    if step in trains_arch:
      batch = to_devices(next(iterators["arch"]), mesh)
      state, new = arch_step(state, batch)
      metrics = {**metrics, **new}
    return state, metrics

  return advance
