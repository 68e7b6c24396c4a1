"""The loss and accuracy of a path with the weights of the supernet."""

from __future__ import annotations

import flax.linen as nn
import jax

from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.training.metrics import (
  Metrics,
  classification,
  cross_entropy,
  in_parts,
)


def evaluate_path(
  path: jax.Array,
  variables: dict,
  batch: dict,
  key: jax.Array,
  *,
  module: nn.Module,
  valid: jax.Array,
  label_smoothing: float,
  grad_accum: int,
) -> Metrics:
  """Loss and accuracy of one path on a batch, or on a device's share of it.

  Batch norm uses the batch's own statistics, as in all steps of a search: those
  of the supernet are of inputs from all candidates.

  Args:
    path: i32[e], the candidate of each edge.
    variables: {'params', 'batch_stats'} of the supernet.
    batch: images and labels.
    key: PRNG key for dropout.
    module: module of the search space.
    valid: bool[e, k], the candidates that exist.
    label_smoothing: smoothing of the labels.
    grad_accum: number of parts of the batch, in memory one after the other.
  """

  def of_part(
    part: dict, carry: None, key: jax.Array
  ) -> tuple[None, tuple[None, Metrics]]:
    logits, _ = module.apply(
      variables,
      part["image"],
      train=True,
      gates=gates_lib.path(path, valid),
      mutable=["batch_stats"],
      rngs={"dropout": key},
    )
    loss = cross_entropy(logits, part, label_smoothing)
    return None, (carry, classification(logits, part, loss))

  _, (_, metrics) = in_parts(of_part, grad_accum, batch, None, key)
  return metrics
