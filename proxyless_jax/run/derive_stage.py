"""Paths of a supernet, evaluated in stages of a run: a step for each path."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from proxyless_jax.data import eval_batches
from proxyless_jax.data.dataset import Subset
from proxyless_jax.nas import gates, objective
from proxyless_jax.nas.additive import fit_additive, spread_paths
from proxyless_jax.nas.baselines import (
  GENERATION,
  next_generation,
  paths_within,
  random_paths,
)
from proxyless_jax.nas.evaluate import evaluate_path
from proxyless_jax.nn import build
from proxyless_jax.parallel.collectives import over_devices, psum
from proxyless_jax.parallel.mesh import (
  host_share,
  make_mesh,
  place,
  round_up,
  to_devices,
)
from proxyless_jax.run.config.options import Options
from proxyless_jax.run.config.sections import DeriveOptions
from proxyless_jax.run.costs import constraints, near_targets
from proxyless_jax.run.loop import Stage
from proxyless_jax.run.storage.json_files import write_json
from proxyless_jax.space import Network
from proxyless_jax.training.metrics import Metrics, merge

FILE, COMPARED = "paths.json", "compared.json"
# Streams of a run are seeded from its seed on; the evaluation has the fourth.
STREAM = 4
METRICS = ("loss", "top1", "top5")


def check_paths(derive: DeriveOptions, space: Network) -> None:
  """Raises a ValueError where the additive model would have too few paths."""
  candidates = sum(len(edge.ops) for edge in space.edges)
  if derive.method == "additive" and derive.paths < candidates:
    raise ValueError(
      f"derive.paths = {derive.paths}: expected at least {candidates}, as the "
      "additive model has a number for each candidate of each edge; several "
      "times as many are better"
    )


def derive_stage(
  options: Options,
  held_out: Subset,
  space: Network,
  costs: Sequence[objective.Cost],
  variables: Mapping,
) -> Stage:
  """The stage that evaluates the paths from which a network is derived.

  Those of the additive model are known from the start; evolution draws a
  generation when it has evaluated the one before.

  Args:
    options: options of the run.
    held_out: the images on which a search trains the architecture.
    space: the search space.
    costs: the costs with their tables; evolution keeps to their targets.
    variables: {'params', 'batch_stats'} of the space's supernet.
  """
  valid, count = gates.valid_candidates(space), options.derive.paths
  common = options, held_out, space, variables
  if options.derive.method == "additive":
    rng = np.random.default_rng([options.seed, STREAM])
    return _stage("derive", spread_paths(rng, valid, count), *common)
  limits = constraints(costs)
  count = evolved_paths(options.derive, space, costs)
  generation = functools.partial(_generation, options.seed, valid, limits)
  none = np.zeros((count, len(valid)))
  return _stage("derive", none, *common, generation=generation)


def evolved_paths(
  derive: DeriveOptions, space: Network, costs: Sequence[objective.Cost]
) -> int:
  """How many paths evolution evaluates: in a small space, all that there are.

  Args:
    derive: options of the derivation.
    space: the search space.
    costs: the costs with their tables.
  """
  valid = gates.valid_candidates(space)
  return paths_within(valid, constraints(costs), derive.paths)


def compare_stage(
  options: Options,
  held_out: Subset,
  space: Network,
  costs: Sequence[objective.Cost],
  variables: Mapping,
  found: np.ndarray,
) -> Stage:
  """The stage that compares a path with different random ones near the targets.

  On other images than those that the path was chosen by, where there are as
  many.

  Args:
    options, held_out, space, costs, variables: as for `derive_stage`.
    found: i64[e], the path; it is the last one of the stage.
  """
  rng = np.random.default_rng([options.seed, STREAM, 2])
  valid = gates.valid_candidates(space)
  limits = near_targets(costs, options.random.near, valid)
  others = random_paths(rng, valid, limits, options.derive.compare, [found])
  paths = [*others, found]
  skipped = options.derive.images
  return _stage("compare", paths, options, held_out, space, variables, skipped)


def _stage(
  name: str,
  paths: Sequence | np.ndarray,
  options: Options,
  held_out: Subset,
  space: Network,
  variables: Mapping,
  skipped: int = 0,
  generation: Callable[[dict, int], np.ndarray] | None = None,
) -> Stage:
  """A step for each path: its loss and accuracy, as the state keeps them.

  All paths see the same images, so that their losses differ by the paths alone.
  The state has the paths i32[n, e], their losses f32[n] and accuracies f32[n].

  Args:
    name: name of the stage.
    paths: i[n, e]; with `generation`, they will be replaced.
    options, held_out, space, variables: as for `derive_stage`.
    skipped: number of images that come last.
    generation: function from the state and the step to the paths of this and
      the following steps.
  """
  mesh, count = make_mesh(), len(paths)
  images, batches = _batches(options, held_out, skipped, mesh)
  evaluate = _evaluation(options, space, variables, batches, mesh)

  def advance(state: dict, step: int) -> tuple[dict, Metrics]:
    if generation and step % GENERATION == 0:
      new = generation(state, step)
      now = state["paths"].at[step : step + len(new)].set(new)
      state = {**state, "paths": now}
    metrics = evaluate(state["paths"][step])
    scores = {
      name: state[name].at[step].set(metrics[name].total / metrics[name].count)
      for name in ("loss", "top1")
    }
    return {**state, **scores}, metrics

  return Stage(
    name=name,
    steps=count,
    batch=images,
    init=lambda: {
      "paths": jnp.asarray(np.array(paths), jnp.int32),
      "loss": jnp.zeros(count),
      "top1": jnp.zeros(count),
    },
    iterators={},
    metrics=METRICS,
    advance=advance,
  )


def _evaluation(
  options: Options, space: Network, variables: Mapping, batches, mesh
) -> Callable[[jax.Array], Metrics]:
  """A function from a path i32[e] to its metrics on all images."""
  evaluate = functools.partial(
    evaluate_path,
    module=build(space, dtype=options.compute_dtype),
    valid=jnp.asarray(gates.valid_candidates(space)),
    label_smoothing=0.0,
    grad_accum=1,
  )

  def on_shard(replicated: tuple, images: dict) -> Metrics:
    variables, path, key = replicated
    return psum(evaluate(path, variables, images, key))

  of_batch = jax.jit(over_devices(on_shard, mesh))
  placed, key = place(dict(variables), mesh), jax.random.key(0)

  def of_path(path: jax.Array) -> Metrics:
    found = [of_batch((placed, path, key), images) for images in batches()]
    return functools.reduce(merge, found)

  return of_path


def _generation(seed: int, valid, limits, state: dict, step: int):
  """The paths that evolution evaluates from a step on: i32[n, e]."""
  return next_generation(
    np.random.default_rng([seed, STREAM, step]),
    np.asarray(state["paths"][:step], np.int64),
    np.asarray(state["loss"][:step]),
    valid,
    limits,
    min(GENERATION, len(state["paths"]) - step),
  ).astype(np.int32)


def of_comparison(scores: Mapping[str, Any]) -> dict:
  """Entries of the result: how the found path compares with random ones.

  Args:
    scores: the last state of `compare_stage`.

  Returns:
    'compared', the number of random paths; 'compared_better', how many of them
    have a lower loss than the found path; 'compared_z', by how many standard
    deviations its loss is below their mean.
  """
  *random, found = np.asarray(scores["loss"], np.float64)
  spread = float(np.std(random, ddof=1)) if len(random) > 1 else 0.0
  z = (float(np.mean(random)) - found) / spread if spread else 0.0
  return {
    "compared": len(random),
    "compared_better": int(np.sum(np.array(random) < found)),
    "compared_z": z,
  }


def keep_compared(
  scores: Mapping[str, Any], workdir: str | os.PathLike
) -> None:
  """Writes compared.json: paths, losses and accuracies; the last is the found.

  Of several hosts, one calls.

  Args:
    scores: the last state of `compare_stage`.
    workdir: folder of the run.
  """
  names = ("paths", "loss", "top1")
  found = {name: np.asarray(scores[name]).tolist() for name in names}
  write_json(os.path.join(workdir, COMPARED), found)


def keep_paths(
  options: Options,
  space: Network,
  scores: Mapping[str, Any],
  workdir: str | os.PathLike,
) -> list[list[float]] | None:
  """Writes paths.json: the paths, their losses and accuracies, and the values.

  Of several hosts, one calls.

  Args:
    options: options of the run.
    space: the search space.
    scores: the last state of the stage.
    workdir: folder of the run.

  Returns:
    The values f[e, k] of the additive model, what each candidate adds to minus
    the loss; None for evolution.
  """
  valid, values = gates.valid_candidates(space), None
  loss = np.asarray(scores["loss"], np.float64)
  if options.derive.method == "additive":
    values = fit_additive(scores["paths"], -loss, valid).tolist()
  found = {
    "paths": np.asarray(scores["paths"]).tolist(),
    "loss": loss.tolist(),
    "top1": np.asarray(scores["top1"], np.float64).tolist(),
    "values": values,
  }
  write_json(os.path.join(workdir, FILE), found)
  return values


def _batches(
  options: Options, held_out: Subset, skipped: int, mesh
) -> tuple[int, Callable[[], list[dict]]]:
  """The number of images, and a function that gives them in batches.

  They are read at its first call and stay on the devices.
  """
  order = np.random.default_rng([options.seed, STREAM, 1]).permutation(
    held_out.indices
  )
  order = np.roll(order, -skipped)
  devices = round_up(1)
  images = min(len(order), options.derive.images)
  batch = min(options.evaluate.batch, images)
  batch = max(devices, batch - batch % devices)
  # No batch is padded: its statistics would be of zeros, too.
  images = max(batch, images - images % batch)
  some = dataclasses.replace(held_out, indices=order[:images])

  @functools.cache
  def batches() -> list[dict]:
    read = eval_batches(some, options.data, batch=batch, share=host_share())
    return [to_devices(images_and_labels, mesh) for images_and_labels in read]

  return images, batches
