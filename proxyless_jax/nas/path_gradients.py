"""Gradients of one path: of its weights, and of the architecture.

The path is drawn from a space, or is all that an architecture has.

Pure functions of a batch, or of a device's share of it: in the second case
what they give of weights and metrics is the device's own, to be added up.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax

from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas import objective as objective_lib
from proxyless_jax.parallel.collectives import psum_backward
from proxyless_jax.training.accumulation import in_parts
from proxyless_jax.training.metrics import (
  Metrics,
  classification,
  cross_entropy,
)


def arch_gradients(
  arch,
  variables: dict,
  multipliers,
  key: jax.Array,
  batch: dict,
  *,
  module: nn.Module,
  valid: jax.Array,
  costs: Sequence[objective_lib.Cost],
  mode: str,
  label_smoothing: float,
  grad_accum: int,
) -> tuple[jax.Array, Metrics]:
  """Gradients of the objective in alpha, through the gates of a drawn path.

  Devices that share a batch exchange the gradients of the gates alone, and
  all have the same result.

  Args:
    arch: f[e, k].
    variables: {'params', 'batch_stats'} of the module.
    multipliers: f[m], of the costs.
    key: of the draw.
    batch: to learn from.
    module: of the space.
    valid: bool[e, k], which candidates exist.
    costs: of the objective, each with a table.
    mode: `full` or `two`, see `gates`.
    label_smoothing: of the labels.
    grad_accum: parts of the batch, in memory one after the other.

  Returns:
    f[e, k], and metrics.
  """

  def gradients(part, _, dropout_key):
    def loss_of(arch):
      gates = gates_lib.draw(key, arch, valid, mode)
      logits, _ = module.apply(
        variables,
        part["image"],
        train=True,
        gates=gates._replace(gate=psum_backward(gates.gate)),
        mutable=["batch_stats"],
        rngs={"dropout": dropout_key},
      )
      loss = cross_entropy(logits, part, label_smoothing)
      expected = [cost.table.expected(gates.probs) for cost in costs]
      metrics = classification(logits, part, loss)
      metrics = {f"arch_{name}": mean for name, mean in metrics.items()}
      total = objective_lib.loss(costs, loss, expected, multipliers)
      return total, (None, metrics)

    return jax.grad(loss_of, has_aux=True)(arch)

  grads, (_, metrics) = in_parts(
    gradients, grad_accum, batch, None, jax.random.fold_in(key, 1)
  )
  return grads, metrics
