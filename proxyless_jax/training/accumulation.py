"""Gradient accumulation: a large batch on a small device, part by part.

    g = (1 / n) sum_i g(part_i)

is the gradient of the whole batch, but for batch norm, whose statistics are
those of a part, and which moves its running ones once per part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def in_parts(gradients: Callable, parts: int, batch: dict, carry: Any, key):
  """Gradients of a batch, with one of its parts in memory at a time.

  Args:
    gradients: (part of the batch, carry, key) -> (gradients of the part's mean
      loss, (carry, metrics)).
    parts: how many; divides the batch.
    batch: arrays f[b, ...]. Part i has the examples i, i + parts, ..., so that
      a batch that is sharded over devices is in parts on each of them.
    carry: handed on from part to part, such as batch-norm statistics.
    key: PRNG key; that of a part has its number folded in.

  Returns:
    As `gradients`: their mean, the last carry, and the sums of metrics.
  """
  if parts == 1:
    return gradients(batch, carry, key)
  batch = jax.tree.map(
    lambda leaf: leaf.reshape(-1, parts, *leaf.shape[1:]).swapaxes(0, 1), batch
  )
  numbers = jnp.arange(parts)

  def of_part(carry, number):
    part = jax.tree.map(lambda leaf: leaf[number], batch)
    return gradients(part, carry, jax.random.fold_in(key, number))

  def add(sums, number):
    carry, *before = sums
    grads, (carry, metrics) = of_part(carry, number)
    return (carry, *jax.tree.map(jnp.add, before, [grads, metrics])), None

  grads, (_, metrics) = jax.eval_shape(of_part, carry, numbers[0])
  zeros = [jax.tree.map(jnp.zeros_like, tree) for tree in (grads, metrics)]
  (carry, grads, metrics), _ = lax.scan(add, (carry, *zeros), numbers)
  return jax.tree.map(lambda leaf: leaf / parts, grads), (carry, metrics)
