"""Paths of a supernet, evaluated as a stage of a run: a step for each path."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from proxyless_jax.data import eval_batches
from proxyless_jax.data.dataset import Subset
from proxyless_jax.nas import gates
from proxyless_jax.nas.additive import fit_additive, spread_paths
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
from proxyless_jax.run.loop import Stage
from proxyless_jax.run.storage.json_files import write_json
from proxyless_jax.space import Network
from proxyless_jax.training.metrics import Metrics, merge

FILE = "paths.json"
# Streams of a run are seeded from its seed on; the evaluation has the fourth.
STREAM = 4
METRICS = ("loss", "top1", "top5")


def derive_stage(
  options: Options, held_out: Subset, space: Network, variables: Mapping
) -> Stage:
  """The stage that evaluates paths of a supernet, one in each step.

  All paths see the same images, so that their losses differ by the paths alone.
  Its state has their losses and accuracies: {'loss': f32[n], 'top1': f32[n]}.

  Args:
    options: options of the run.
    held_out: the images on which a search trains the architecture.
    space: the search space.
    variables: {'params', 'batch_stats'} of its supernet.
  """
  paths, mesh = drawn_paths(options, space), make_mesh()
  batch, batches = _batches(options, held_out, mesh)
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

  def advance(state: dict, step: int) -> tuple[dict, Metrics]:
    path = jnp.asarray(paths[step], jnp.int32)
    found = [of_batch((placed, path, key), images) for images in batches()]
    metrics = functools.reduce(merge, found)
    new = {
      name: values.at[step].set(metrics[name].total / metrics[name].count)
      for name, values in state.items()
    }
    return new, metrics

  return Stage(
    name="derive",
    steps=len(paths),
    batch=batch,
    init=lambda: {name: jnp.zeros(len(paths)) for name in ("loss", "top1")},
    iterators={},
    metrics=METRICS,
    advance=advance,
  )


def drawn_paths(options: Options, space: Network) -> np.ndarray:
  """The paths of the stage, i64[n, e]: the same in each start of a run."""
  rng = np.random.default_rng([options.seed, STREAM])
  valid = gates.valid_candidates(space)
  return spread_paths(rng, valid, options.derive.paths)


def fit_values(
  options: Options,
  space: Network,
  scores: Mapping[str, Any],
  workdir: str | os.PathLike,
) -> np.ndarray:
  """What each candidate adds to minus the loss; f64[e, k], as `fit_additive`.

  Writes paths.json: the paths with their losses and accuracies, and the values.
  Of several hosts, one calls.

  Args:
    options: options of the run.
    space: the search space.
    scores: the last state of the stage.
    workdir: folder of the run.
  """
  paths = drawn_paths(options, space)
  loss = np.asarray(scores["loss"], np.float64)
  values = fit_additive(paths, -loss, gates.valid_candidates(space))
  found = {
    "paths": paths.tolist(),
    "loss": loss.tolist(),
    "top1": np.asarray(scores["top1"], np.float64).tolist(),
    "values": values.tolist(),
  }
  write_json(os.path.join(workdir, FILE), found)
  return values


def _batches(
  options: Options, held_out: Subset, mesh
) -> tuple[int, Callable[[], list[dict]]]:
  """The number of images, and a function that gives them in batches.

  They are read at its first call and stay on the devices.
  """
  order = np.random.default_rng([options.seed, STREAM, 1]).permutation(
    held_out.indices
  )
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
