"""The evaluation of an architecture, and batch-norm statistics for it."""

from __future__ import annotations

import functools
import itertools
import math

import jax
import jax.numpy as jnp

from proxyless_jax.data import DataOptions, eval_batches, train_batches
from proxyless_jax.data.dataset import Subset
from proxyless_jax.nn import build
from proxyless_jax.parallel.mesh import (
  host_share,
  make_mesh,
  place,
  round_up,
  to_devices,
)
from proxyless_jax.run.hosts import hosts
from proxyless_jax.run.loop import show_progress
from proxyless_jax.space import Network
from proxyless_jax.training.metrics import Metrics, merge
from proxyless_jax.training.steps import batch_statistics, eval_step

# Streams of a run are seeded from its seed on: search and training have three.
STREAM = 3
# An evaluation logs so often at most, and with so many steps between.
LOGS, LOG_EVERY = 5, 10


def recalibrate(
  network: Network,
  variables: dict,
  images: Subset,
  data: DataOptions,
  *,
  batch: int,
  count: int,
  seed: int,
  dtype: jnp.dtype,
) -> dict:
  """Replaces inherited batch-norm statistics by those of the network itself.

  Inherited statistics are those of inputs from all candidates. The new ones are
  means over batches of training images that run the chosen candidates alone.

  Args:
    network: the architecture.
    variables: {'params', 'batch_stats'} of the network.
    images: training images.
    data: the options that the images were loaded with.
    batch: images per batch.
    count: number of batches.
    seed: seed of the run.
    dtype: type of activations.

  Returns:
    The variables with new 'batch_stats'.
  """
  hosts.print_lines(
    [f"inherit: compiling, then batch-norm statistics of {count} batches ..."]
  )
  module = build(network, dtype=dtype, bn_momentum=0.0)
  batches = train_batches(
    images, data, batch=batch, seed=seed + STREAM, share=host_share()
  )
  mesh = make_mesh()
  of_batch = jax.jit(
    functools.partial(batch_statistics, module=module, mesh=mesh)
  )
  variables, total = place(variables, mesh), None
  for images_and_labels in itertools.islice(batches, count):
    new = of_batch(variables, to_devices(images_and_labels, mesh))
    total = new if total is None else jax.tree.map(jnp.add, total, new)
  batches.close()
  mean = jax.tree.map(lambda leaf: leaf / count, total)
  return {**variables, "batch_stats": mean}


def evaluate_network(
  network: Network,
  variables: dict,
  images: Subset,
  data: DataOptions,
  *,
  batch: int,
  dtype: jnp.dtype,
) -> dict[str, float]:
  """Loss and accuracy of an architecture, with each image counted once.

  Args:
    network: the architecture.
    variables: {'params', 'batch_stats'} of the network.
    images: test images.
    data: the options that the images were loaded with.
    batch: images per step; rounded up to a multiple of the devices.
    dtype: type of activations.

  Returns:
    {'loss', 'top1', 'top5', 'images'}: the mean loss in nats, fractions, and
    the number of images.
  """
  module = build(network, dtype=dtype)
  mesh = make_mesh()
  of_batch = jax.jit(functools.partial(eval_step, module=module, mesh=mesh))
  add = jax.jit(merge)
  total, values = None, {}
  variables, batch = place(variables, mesh), round_up(batch)
  batches = eval_batches(images, data, batch=batch, share=host_share())
  steps = math.ceil(len(images) / batch)
  log_every = max(LOG_EVERY, math.ceil(steps / LOGS))
  with show_progress("evaluate", steps, batch=batch) as progress:
    for step, images_and_labels in enumerate(batches, start=1):
      new = of_batch(variables, to_devices(images_and_labels, mesh))
      total = new if total is None else add(total, new)
      progress.update(step)
      if step % log_every == 0 or step == steps:
        values = _means(total)
        progress.log(step, values)
  assert total is not None  # No subset is empty.
  return {**values, "images": int(total["top1"].count)}


def _means(total: Metrics) -> dict[str, float]:
  total = jax.device_get(total)
  return {name: float(m.total / m.count) for name, m in total.items()}
