"""The training of an architecture as a stage, and its evaluation."""

from __future__ import annotations

import functools
import itertools
import os
from typing import Any

import jax
import jax.numpy as jnp
import optax

from proxyless_jax.data import eval_batches, train_batches
from proxyless_jax.data.dataset import Dataset, Subset
from proxyless_jax.nn import build, init
from proxyless_jax.parallel.mesh import (
  host_share,
  jit_step,
  make_mesh,
  place,
  round_up,
  to_devices,
)
from proxyless_jax.run.config.options import Options
from proxyless_jax.run.config.sections import TrainOptions
from proxyless_jax.run.loop import Stage, newest_state
from proxyless_jax.space import Network
from proxyless_jax.training.metrics import Metrics, merge
from proxyless_jax.training.optimizers import train_schedule, weight_optimizer
from proxyless_jax.training.state import train_state
from proxyless_jax.training.steps import batch_statistics, eval_step, train_step

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
  images = _images(dataset)
  count, linear = train_steps(train, len(images))
  tx = _optimizer(train, count, linear)
  module = build(
    network,
    dtype=options.compute_dtype,
    dropout=train.dropout,
    frozen=_frozen(train, network),
  )
  mesh = make_mesh()
  batches = _batches(options, images, batch=train.batch, seed=2)
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
    init=lambda: _first_state(options, module, variables, tx),
    iterators={"train": batches},
    metrics=METRICS,
    advance=_advance(
      jit_step(step, mesh, options.run.shard_state), batches, mesh
    ),
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
  options: Options, network: Network, workdir: str | os.PathLike
) -> tuple[int, dict] | None:
  """(step, variables) of the newest checkpoint of a training.

  None where there is none in the workdir.
  """
  # The schedule does not matter: no step follows.
  tx = _optimizer(options.train, 1, 0)
  module = build(network, frozen=_frozen(options.train, network))
  stage = Stage(
    name="train",
    steps=0,
    batch=options.train.batch,
    init=lambda: _first_state(options, module, None, tx),
    iterators={"train": None},
    metrics=METRICS,
    advance=None,
  )
  found = newest_state(stage, workdir, options.run)
  return found and (found[0], found[1].ema)


def _first_state(options: Options, module, variables: dict | None, tx):
  init_key, key = train_keys(options.seed)
  variables = variables or init(module, init_key)
  first = train_state(key, variables, tx, module.frozen)
  return place(first, make_mesh(), options.run.shard_state)


def train_keys(seed: int) -> tuple[jax.Array, jax.Array]:
  """The key of a training's first weights, and that of its steps.

  Args:
    seed: seed of the run.
  """
  # A stream of its own: the search has drawn from seed and seed + 1.
  init_key, key = jax.random.split(jax.random.key(seed + 2))
  return init_key, key


def _frozen(train: TrainOptions, network: Network) -> list[str]:
  """The edges that are not trained: with `freeze`, all but the classifier."""
  return [edge.name for edge in network.layers[:-1]] if train.freeze else []


def _optimizer(train: TrainOptions, count: int, linear: int):
  lr = train.lr * train.batch / train.lr_batch
  return weight_optimizer(
    train_schedule(lr, count, linear),
    optimizer=train.optimizer,
    momentum=train.momentum,
    nesterov=train.nesterov,
    b1=train.b1,
    b2=train.b2,
    weight_decay=train.weight_decay,
    kernels_only=train.kernels_only,
  )


def _drop_rate(train: TrainOptions, count: int) -> optax.Schedule | None:
  """Zoph et al., CVPR 2018: the rate grows in proportion to the steps."""
  if not train.drop_path:
    return None
  return optax.linear_schedule(0.0, train.drop_path, count)


def _images(dataset: Dataset) -> Subset:
  assert dataset.train is not None  # Only an evaluation goes without.
  return dataset.train


def _batches(options: Options, images: Subset, *, batch: int, seed: int):
  return train_batches(
    images,
    options.data,
    batch=batch,
    seed=options.seed + seed,
    share=host_share(),
  )


def _advance(train_step, iterator, mesh):
  """Takes the training from step to step."""

  def advance(current, step: int) -> tuple[Any, Metrics]:
    del step
    return train_step(current, to_devices(next(iterator), mesh))

  return advance


def recalibrate(
  options: Options, dataset: Dataset, network: Network, variables: dict
) -> dict:
  """Variables with batch-norm statistics of the network's own path.

  Inherited statistics were gathered behind other candidates than the chosen
  ones. The new ones are means over batches of training images.
  """
  module = build(network, dtype=options.compute_dtype, bn_momentum=0.0)
  count = options.evaluate.recalibration_batches
  batch = options.train.batch // options.train.grad_accum
  batches = _batches(options, _images(dataset), batch=batch, seed=3)
  mesh = make_mesh()
  of_batch = jax.jit(
    functools.partial(batch_statistics, module=module, mesh=mesh)
  )
  variables, total = place(variables, mesh), None
  for batch in itertools.islice(batches, count):
    new = of_batch(variables, to_devices(batch, mesh))
    total = new if total is None else jax.tree.map(jnp.add, total, new)
  batches.close()
  mean = jax.tree.map(lambda leaf: leaf / count, total)
  return {**variables, "batch_stats": mean}


def evaluate_network(
  options: Options, dataset: Dataset, network: Network, variables: dict
) -> dict[str, float]:
  """Loss, top1 and top5 over the test part, each image once.

  Returns:
    {'loss', 'top1', 'top5', 'images'}; top1 and top5 are fractions.
  """
  module = build(network, dtype=options.compute_dtype)
  mesh = make_mesh()
  of_batch = jax.jit(functools.partial(eval_step, module=module, mesh=mesh))
  add = jax.jit(merge)
  total = None
  variables = place(variables, mesh)
  batches = eval_batches(
    dataset.test,
    options.data,
    batch=round_up(options.evaluate.batch),
    share=host_share(),
  )
  for batch in batches:
    new = of_batch(variables, to_devices(batch, mesh))
    total = new if total is None else add(total, new)
  total = jax.device_get(total)
  values = {name: float(m.total / m.count) for name, m in total.items()}
  return {**values, "images": int(total["top1"].count)}
