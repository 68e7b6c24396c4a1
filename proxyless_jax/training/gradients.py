"""Gradients of the weights of one path, or of an architecture.

Pure functions of a batch, or of a device's share of it: in the second case
what they give of weights and metrics is the device's own, to be added up.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from proxyless_jax.nn.layers.batch_norm import MUTATED, synced_batch_stats
from proxyless_jax.training.accumulation import in_parts
from proxyless_jax.training.metrics import (
  Metrics,
  classification,
  cross_entropy,
)


def weight_gradients(
  rows,
  batch_stats,
  gates: Any,
  drop_rate: jax.Array | None,
  key: jax.Array,
  batch: dict,
  *,
  module: nn.Module,
  label_smoothing: float,
  grad_accum: int,
  frozen: dict | None = None,
) -> tuple[dict, dict, Metrics]:
  """Gradients of the mean loss in a path's weights.

  Args:
    rows: the parameters of the path: of a space as `rows.get_drawn` gives them.
    batch_stats: of the module.
    gates: the path; None for an architecture.
    drop_rate: f[], of paths beside shortcuts; None drops none.
    key: for dropout.
    batch: to learn from.
    module: of the space or the architecture.
    label_smoothing: of the labels.
    grad_accum: parts of the batch, in memory one after the other.
    frozen: {'params', 'batch_stats'} of edges that stay as they are; they are
      then left out of `rows` and `batch_stats`, and of what is returned.

  Returns:
    Gradients of `rows`, new batch-norm statistics, metrics.
  """
  frozen = frozen or {"params": {}, "batch_stats": {}}

  def gradients(part, batch_stats, key):
    def loss_of(rows):
      logits, new = module.apply(
        {
          "params": {**rows, **frozen["params"]},
          "batch_stats": {**batch_stats, **frozen["batch_stats"]},
        },
        part["image"],
        train=True,
        gates=gates,
        drop_rate=drop_rate,
        mutable=MUTATED,
        rngs={"dropout": key},
      )
      loss = cross_entropy(logits, part, label_smoothing)
      metrics = classification(logits, part, loss)
      stats = new.get("batch_stats", {})
      new = {**new, "batch_stats": {name: stats[name] for name in batch_stats}}
      return loss, (synced_batch_stats(new), metrics)

    return jax.grad(loss_of, has_aux=True)(rows)

  grads, (batch_stats, metrics) = in_parts(
    gradients, grad_accum, batch, batch_stats, key
  )
  return grads, batch_stats, metrics
