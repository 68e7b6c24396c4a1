"""The training of an architecture as a stage of a run."""

from __future__ import annotations

import functools
import os
from typing import Any

import jax
import optax

from proxyless_jax.data import train_batches
from proxyless_jax.data.dataset import Dataset, Subset
from proxyless_jax.nn import build, init
from proxyless_jax.parallel.mesh import (
  host_share,
  jit_step,
  make_mesh,
  place,
  to_devices,
)
from proxyless_jax.run.config.options import Options
from proxyless_jax.run.config.sections import RunOptions, TrainOptions
from proxyless_jax.run.loop import Stage, newest_state
from proxyless_jax.space import Network
from proxyless_jax.training.metrics import Metrics
from proxyless_jax.training.optimizers import train_schedule
from proxyless_jax.training.state import train_state
from proxyless_jax.training.steps import train_step

# Streams of a run are seeded from its seed on: the search has the first two.
STREAM = 2
METRICS = ("loss", "top1", "top5")


def train_stage(
  options: Options, dataset: Dataset, network: Network, variables: dict | None
) -> Stage:
  """The stage that trains an architecture.

  Args:
    options: options of the run.
    dataset: images, of which the part `train` is learned from.
    network: the architecture.
    variables: {'params', 'batch_stats'} to start from; None for fresh ones.
  """
  train = options.train
  images = train_images(dataset)
  count, linear = train_steps(train, len(images))
  tx = _optimizer(train, count, linear)
  module = build(
    network,
    dtype=options.compute_dtype,
    dropout=train.dropout,
    frozen=_frozen(train, network),
  )
  mesh, seed, sharded = make_mesh(), options.seed, options.run.shard_state
  batches = train_batches(
    images,
    options.data,
    batch=train.batch,
    seed=seed + STREAM,
    share=host_share(),
  )
  step = functools.partial(
    train_step,
    module=module,
    tx=tx,
    label_smoothing=train.label_smoothing,
    ema_decay=train.ema_decay,
    drop_rate=_drop_rate(train, count),
    grad_accum=train.grad_accum,
    mesh=mesh,
  )
  return Stage(
    name="train",
    steps=count,
    batch=train.batch,
    init=lambda: _first_state(seed, module, variables, tx, sharded),
    iterators={"train": batches},
    metrics=METRICS,
    advance=_advance(jit_step(step, mesh, sharded), batches, mesh),
  )


def train_steps(train: TrainOptions, images: int) -> tuple[int, int]:
  """The numbers of steps of a training, and of its linear warm-up.

  Args:
    train: options of the training.
    images: number of images in the training split.
  """
  epoch = images / train.batch
  count = max(1, round(train.epochs * epoch))
  # Fewer epochs than the training has, which rounding may make as many steps.
  return count, min(round(train.lr_warmup_epochs * epoch), count - 1)


def trained(
  train: TrainOptions,
  run: RunOptions,
  network: Network,
  workdir: str | os.PathLike,
) -> tuple[int, dict] | None:
  """The newest checkpoint of a training: its step, and the variables.

  Args:
    train: options of the training.
    run: options of the run.
    network: the architecture.
    workdir: folder of the run.

  Returns:
    (step, {'params', 'batch_stats'}); None without a checkpoint.
  """
  # Neither schedule nor seed matters: the state is read, and no step follows.
  tx, seed = _optimizer(train, 1, 0), 0
  module = build(network, frozen=_frozen(train, network))
  stage = Stage(
    name="train",
    steps=0,
    batch=train.batch,
    init=lambda: _first_state(seed, module, None, tx, run.shard_state),
    iterators={"train": None},
    metrics=METRICS,
    advance=None,
  )
  found = newest_state(stage, workdir, run)
  return found and (found[0], found[1].ema)


def _first_state(seed: int, module, variables: dict | None, tx, sharded: bool):
  init_key, key = train_keys(seed)
  variables = variables or init(module, init_key)
  first = train_state(key, variables, tx, module.frozen)
  return place(first, make_mesh(), sharded)


def train_keys(seed: int) -> tuple[jax.Array, jax.Array]:
  """The key of a training's first weights, and that of its steps.

  Args:
    seed: seed of the run.
  """
  init_key, key = jax.random.split(jax.random.key(seed + STREAM))
  return init_key, key


def _frozen(train: TrainOptions, network: Network) -> list[str]:
  """The edges that are not trained: with `freeze`, all but the classifier."""
  return [edge.name for edge in network.layers[:-1]] if train.freeze else []


def _optimizer(train: TrainOptions, count: int, linear: int):
  lr = train.lr * train.batch / train.lr_batch
  schedule = train_schedule(lr, count, linear)
  return train.tx(schedule, kernels_only=train.kernels_only)


def _drop_rate(train: TrainOptions, count: int) -> optax.Schedule | None:
  """Zoph et al., CVPR 2018: the rate grows in proportion to the steps."""
  if not train.drop_path:
    return None
  return optax.linear_schedule(0.0, train.drop_path, count)


def train_images(dataset: Dataset) -> Subset:
  """The training images, which only the dataset of an evaluation lacks."""
  assert dataset.train is not None
  return dataset.train


def _advance(train_step, iterator, mesh):
  """Takes the training from step to step."""

  def advance(state, step: int) -> tuple[Any, Metrics]:
    del step
    return train_step(state, to_devices(next(iterator), mesh))

  return advance
