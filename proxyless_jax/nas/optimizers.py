"""The schedule of a search, and optimizers of its architecture."""

import optax

from proxyless_jax.nas.transforms import drawn_only, keep_pair_probability
from proxyless_jax.training.optimizers import by_name, check_steps


def search_schedule(
  warmup_lr: float, warmup_steps: int, lr: float, steps: int
) -> optax.Schedule:
  """Learning rate of the weights: a cosine for warm-up, one for the search.

  Args:
    warmup_lr: rate at the start of the warm-up, which trains weights only.
    warmup_steps: steps in which it falls to zero; 0 for no warm-up.
    lr: rate at the start of the search.
    steps: steps in which it falls to zero.

  Raises:
    ValueError: fewer steps than 1, or than 0 for the warm-up.

  Example:
    >>> rate = search_schedule(0.05, 100, 0.025, 300)
    >>> [round(float(rate(i)), 4) for i in (0, 50, 99, 100, 250, 400)]
    [0.05, 0.025, 0.0, 0.025, 0.0125, 0.0]
  """
  check_steps("steps", steps, 1)
  check_steps("warmup_steps", warmup_steps, 0)
  search = optax.cosine_decay_schedule(lr, steps)
  if warmup_steps == 0:
    return search
  warmup = optax.cosine_decay_schedule(warmup_lr, warmup_steps)
  return optax.join_schedules([warmup, search], [warmup_steps])


def arch_optimizer(
  lr: optax.ScalarOrSchedule,
  *,
  optimizer: str = "adam",
  b1: float,
  b2: float,
  weight_decay: float,
) -> optax.GradientTransformationExtraArgs:
  """The optimizer of the architecture, by name.

  It moves the involved logits and keeps the probability of all others. The
  released settings are Adam of lr 1e-3, b1 0, b2 0.999, no decay. Adam's count
  is global, so a logit's first update after t steps is up to
  sqrt((1 - b2^t) / (1 - b2)) times lr, as it is there.

  `update` takes `drawn` and `involved`: give both the same tree, True at the
  candidates of this step, f[..., candidates] like the logits, or plain True
  for the full gradient and REINFORCE.

  Args:
    lr: learning rate, or a function of the step.
    optimizer: one of `training.optimizers.OPTIMIZERS`; `sgd` is plain gradient
      descent, without momentum.
    b1, b2: decays of the moments of `adam`, `adamw` and `lion`.
    weight_decay: factor of the logits that `sgd` and `adam` add to the
      gradient, and that `adamw` and `lion` add to the update, before `lr`.

  Raises:
    ValueError: unknown optimizer.

  Example:
    >>> import jax.numpy as jnp
    >>> tx = arch_optimizer(1e-3, b1=0.0, b2=0.999, weight_decay=0.0)
    >>> logits = jnp.zeros((1, 3))
    >>> pair = jnp.array([[True, True, False]])
    >>> grads = jnp.array([[1.0, -1.0, 0.0]])
    >>> updates, _ = tx.update(
    ...   grads, tx.init(logits), logits, drawn=pair, involved=pair
    ... )
    >>> print((1e3 * updates).round(2))
    [[-1.  1. -0.]]
  """
  inner = by_name(
    optimizer,
    lr,
    momentum=0.0,
    nesterov=False,
    b1=b1,
    b2=b2,
    weight_decay=weight_decay,
  )
  return on_involved(inner)


def on_involved(
  inner: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
  """Any optax transform as an optimizer of the architecture.

  Args:
    inner: the transform; its state must be as `transforms.drawn_only` asks.

  Returns:
    `inner` on the involved logits, with the probability of all others kept.
  """
  return optax.chain(drawn_only(inner), keep_pair_probability())
