"""Optimizers by name, and the schedule of plain training: parts of optax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

OPTIMIZERS = ("sgd", "adam", "adamw", "lion")


def train_schedule(
  lr: float, steps: int, lr_warmup_steps: int
) -> optax.Schedule:
  """Learning rate of plain training: a linear ramp, then a cosine to zero.

  Args:
    lr: highest rate.
    steps: number of steps, those of the ramp included.
    lr_warmup_steps: steps in which the rate rises from zero; 0 for none.

  Raises:
    ValueError: the ramp does not leave a step to the cosine.

  Example:
    >>> rate = train_schedule(0.4, steps=110, lr_warmup_steps=10)
    >>> [round(float(rate(i)), 4) for i in (0, 5, 10, 60, 110)]
    [0.0, 0.2, 0.4, 0.2, 0.0]
  """
  check_steps("lr_warmup_steps", lr_warmup_steps, 0)
  check_steps("steps", steps, lr_warmup_steps + 1)
  if lr_warmup_steps == 0:
    return optax.cosine_decay_schedule(lr, steps)
  return optax.warmup_cosine_decay_schedule(0.0, lr, lr_warmup_steps, steps)


def weight_optimizer(
  schedule: optax.ScalarOrSchedule,
  *,
  optimizer: str = "sgd",
  momentum: float = 0.9,
  nesterov: bool = True,
  b1: float = 0.9,
  b2: float = 0.999,
  weight_decay: float,
  kernels_only: bool,
) -> optax.GradientTransformationExtraArgs:
  """The optimizer of weights, by name; `sgd` is the released search's.

  A supernet's step applies it to the drawn path alone (`nas.transforms`).
  The released settings are SGD of momentum 0.9 with Nesterov and decay 4e-5.

  Args:
    schedule: learning rate, or a function of the step.
    optimizer: one of `OPTIMIZERS`.
    momentum, nesterov: settings of `sgd`; the others have no use for them.
    b1, b2: decays of the moments of `adam`, `adamw` and `lion`.
    weight_decay: factor of the parameters that `sgd` and `adam` add to the
      gradient, and that `adamw` and `lion` add to the update, before the
      learning rate.
    kernels_only: leaves out of the decay the parameters of fewer than two
      dimensions: biases and batch-norm scales.

  Raises:
    ValueError: unknown optimizer.

  Example:
    >>> tx = weight_optimizer(0.1, weight_decay=0.5, kernels_only=True)
    >>> params = {"kernel": jnp.ones((1, 1)), "bias": jnp.ones(1)}
    >>> grads = {"kernel": jnp.zeros((1, 1)), "bias": jnp.zeros(1)}
    >>> print(tx.update(grads, tx.init(params), params)[0]["kernel"])
    [[-0.095]]
  """
  return by_name(
    optimizer,
    schedule,
    momentum=momentum,
    nesterov=nesterov,
    b1=b1,
    b2=b2,
    weight_decay=weight_decay,
    decayed=_kernels if kernels_only else None,
  )


def by_name(
  optimizer: str,
  schedule: optax.ScalarOrSchedule,
  *,
  momentum: float,
  nesterov: bool,
  b1: float,
  b2: float,
  weight_decay: float,
  decayed: Callable[[Any], Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
  """An optimizer of `OPTIMIZERS`.

  Args:
    optimizer: name of the optimizer.
    schedule, momentum, nesterov, b1, b2, weight_decay: as for
      `weight_optimizer`.
    decayed: function from parameters to a tree of bools, True where they decay;
      None for all.

  Raises:
    ValueError: unknown optimizer.
  """
  if optimizer not in OPTIMIZERS:
    raise ValueError(
      f"optimizer = {optimizer!r}: expected one of {OPTIMIZERS}; from Python, "
      "a step takes any optax transform"
    )
  decay = optax.add_decayed_weights(weight_decay, decayed)
  if optimizer == "sgd":
    return optax.chain(decay, optax.sgd(schedule, momentum, nesterov))
  if optimizer == "adam":
    return optax.chain(decay, optax.adam(schedule, b1, b2))
  decoupled = optax.adamw if optimizer == "adamw" else optax.lion
  return decoupled(schedule, b1, b2, weight_decay=weight_decay, mask=decayed)


def check_steps(field: str, value: int, least: int) -> None:
  """Raises a ValueError for fewer steps than `least`."""
  if value < least:
    raise ValueError(f"{field} is {value}, expected {least} or more.")


def _kernels(params: Any) -> Any:
  return jax.tree.map(lambda p: jnp.ndim(p) > 1, params)
