"""Metrics of batches as sums and counts, merged by addition."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from proxyless_jax.parallel.collectives import psum, psum_forward


class Mean(NamedTuple):
  """A mean in the making: total f32[] over count f32[]."""

  total: jax.Array
  count: jax.Array


Metrics = dict[str, Mean]


def merge(one: Metrics, other: Metrics) -> Metrics:
  """The metrics of both: a name that only one has stays as it is."""
  both = {
    name: jax.tree.map(jnp.add, one[name], other[name])
    for name in one.keys() & other.keys()
  }
  return {**one, **other, **both}


def once(value) -> Mean:
  """The metric of one step: f[]."""
  return Mean(value, jnp.ones((), jnp.float32))


def cross_entropy(logits, batch: dict, label_smoothing: float):
  """Mean cross-entropy with smoothed labels over the real examples, f32[].

  Of the whole batch, where devices share it.
  """
  classes = logits.shape[-1]
  labels = jax.nn.one_hot(batch["label"], classes, dtype=logits.dtype)
  labels = optax.smooth_labels(labels, label_smoothing)
  losses = optax.softmax_cross_entropy(logits, labels)
  count = psum(jnp.sum(batch["mask"]))
  return psum_forward(jnp.sum(losses * batch["mask"])) / jnp.maximum(count, 1.0)


def classification(logits, batch: dict, loss) -> Metrics:
  """Loss, top-1 and top-5 as means over the real examples of a batch.

  Where devices share it, of this one's: to be added up.
  """
  mask = batch["mask"]
  label = batch["label"][:, None]
  of_label = jnp.take_along_axis(logits, label, axis=-1)
  # As `lax.top_k` orders: ties by class, so that equal logits are no hit for
  # every label, and NaN first, so that a diverged network has none.
  tied = (logits == of_label) & (jnp.arange(logits.shape[-1]) < label)
  above = jnp.sum(~(logits <= of_label) | tied, axis=-1)
  count = jnp.sum(mask)
  return {
    "loss": Mean(loss * count, count),
    "top1": Mean(jnp.sum((above < 1) * mask), count),
    "top5": Mean(jnp.sum((above < 5) * mask), count),
  }
