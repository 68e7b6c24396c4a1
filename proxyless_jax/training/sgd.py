"""The optimizer of weights and its schedule, in optax's own parts."""

import jax
import jax.numpy as jnp
import optax


def train_schedule(
  lr: float, steps: int, lr_warmup_steps: int
) -> optax.Schedule:
  """Learning rate of plain training: a linear ramp, then a cosine to zero.

  From zero to `lr` in `lr_warmup_steps` (0: none), which count among the
  `steps`. ValueError where the ramp does not leave a step to the cosine.

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
  momentum: float,
  nesterov: bool,
  weight_decay: float,
  kernels_only: bool,
) -> optax.GradientTransformationExtraArgs:
  """SGD with weight decay in the gradient, as the released search has it.

  For a supernet wrap it in `drawn_only`; a plain network takes it as it is.
  The released settings are momentum 0.9 with Nesterov and decay 4e-5.
  `weight_decay` times the parameters is added to their gradient; `kernels_only`
  leaves out those of fewer than two dimensions, biases and batch-norm scales.

  Example:
    >>> tx = weight_optimizer(
    ...   0.1, momentum=0.9, nesterov=True, weight_decay=0.5, kernels_only=True
    ... )
    >>> params = {"kernel": jnp.ones((1, 1)), "bias": jnp.ones(1)}
    >>> grads = {"kernel": jnp.zeros((1, 1)), "bias": jnp.zeros(1)}
    >>> print(tx.update(grads, tx.init(params), params)[0]["kernel"])
    [[-0.095]]
  """
  return optax.chain(
    optax.add_decayed_weights(weight_decay, _kernels if kernels_only else None),
    optax.sgd(schedule, momentum, nesterov),
  )


def check_steps(field: str, value: int, least: int) -> None:
  """Raises a ValueError for fewer steps than `least`."""
  if value < least:
    raise ValueError(f"{field} is {value}, expected {least} or more.")


def _kernels(params):
  return jax.tree.map(lambda p: jnp.ndim(p) > 1, params)
