"""What a batch gives: its loss, its metrics and, part by part, its gradients.

Metrics are sums and counts, merged by addition. Gradient accumulation takes a
large batch on a small device part by part:

    g = (1 / n) sum_i g(part_i)

is the gradient of the whole batch, but for batch norm, whose statistics are
those of a part, and which moves its running ones once per part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from proxyless_jax.parallel.collectives import psum, psum_forward


class Mean(NamedTuple):
  """A mean as a sum and a count: total f32[] over count f32[]."""

  total: jax.Array
  # Nobody counts elements by `tuple.count`, which it hides.
  count: jax.Array  # type: ignore[assignment]


Metrics = dict[str, Mean]


def merge(one: Metrics, other: Metrics) -> Metrics:
  """The metrics of both: a name that only one has stays as it is."""
  both = {
    name: jax.tree.map(jnp.add, one[name], other[name])
    for name in one.keys() & other.keys()
  }
  return {**one, **other, **both}


def once(value: jax.Array) -> Mean:
  """The metric of one step, from its value f[]."""
  return Mean(value, jnp.ones((), jnp.float32))


def cross_entropy(
  logits: jax.Array, batch: dict, label_smoothing: float
) -> jax.Array:
  """Mean cross-entropy with smoothed labels over the real examples, f[].

  Of the whole batch, where devices share it.

  Args:
    logits: f[b, classes].
    batch: labels i32[b], and the mask f[b] of real examples.
    label_smoothing: smoothing of the labels.
  """
  classes = logits.shape[-1]
  labels = jax.nn.one_hot(batch["label"], classes, dtype=logits.dtype)
  labels = optax.smooth_labels(labels, label_smoothing)
  losses = optax.softmax_cross_entropy(logits, labels)
  count = psum(jnp.sum(batch["mask"]))
  return psum_forward(jnp.sum(losses * batch["mask"])) / jnp.maximum(count, 1.0)


def classification(logits: jax.Array, batch: dict, loss: jax.Array) -> Metrics:
  """Loss, top-1 and top-5 as means over the real examples of a batch.

  Where devices share it, over this one's: a `psum` gives those of all.

  Args:
    logits: f[b, classes].
    batch: labels i32[b], and the mask f[b] of real examples.
    loss: f[], the `cross_entropy` of the batch.
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


def in_parts(
  gradients: Callable[[dict, Any, jax.Array], tuple[Any, tuple[Any, Any]]],
  parts: int,
  batch: dict,
  carry: Any,
  key: jax.Array,
) -> tuple[Any, tuple[Any, Any]]:
  """Gradients of a batch, with one of its parts in memory at a time.

  Args:
    gradients: (part of the batch, carry, key) -> (gradients of the part's mean
      loss, (carry, metrics)).
    parts: number of parts; divides the batch.
    batch: arrays f[b, ...]. Part i has the examples i, i + parts, ..., so that
      a batch that is sharded over devices is in parts on each of them.
    carry: what a part hands on to the next, such as batch-norm statistics.
    key: PRNG key; part i of several uses `fold_in(key, i)`.

  Returns:
    As `gradients`: their mean, the last carry, and the sums of metrics.
  """
  if parts == 1:
    return gradients(batch, carry, key)
  batch = jax.tree.map(
    lambda leaf: leaf.reshape(-1, parts, *leaf.shape[1:]).swapaxes(0, 1), batch
  )
  numbers = jnp.arange(parts)

  def of_part(carry: Any, number: jax.Array) -> tuple[Any, tuple[Any, Any]]:
    part = jax.tree.map(lambda leaf: leaf[number], batch)
    return gradients(part, carry, jax.random.fold_in(key, number))

  def add(sums: tuple, number: jax.Array) -> tuple[tuple, None]:
    carry, *before = sums
    grads, (carry, metrics) = of_part(carry, number)
    return (carry, *jax.tree.map(jnp.add, before, [grads, metrics])), None

  grads, (_, metrics) = jax.eval_shape(of_part, carry, numbers[0])
  zeros = [jax.tree.map(jnp.zeros_like, tree) for tree in (grads, metrics)]
  (carry, grads, metrics), _ = lax.scan(add, (carry, *zeros), numbers)
  return jax.tree.map(lambda leaf: leaf / parts, grads), (carry, metrics)
