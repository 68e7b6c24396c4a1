"""The optimizers of a search: the paper's settings in optax's own parts."""

import optax

from proxyless_jax.nas.transforms import drawn_only, keep_pair_probability
from proxyless_jax.training.sgd import check_steps


def search_schedule(
  warmup_lr: float, warmup_steps: int, lr: float, steps: int
) -> optax.Schedule:
  """Learning rate of the weights: a cosine for warm-up, one for the search.

  From `warmup_lr` to zero in `warmup_steps` (0: none), weights only; then from
  `lr` to zero in the `steps` of the search. ValueError for lengths below that.

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
  lr: optax.ScalarOrSchedule, *, b1: float, b2: float, weight_decay: float
) -> optax.GradientTransformationExtraArgs:
  """Adam on the involved logits, the probability of all others kept.

  `update` takes `drawn` and `involved`: give both the same tree, True at the
  candidates of this step, `f[..., candidates]` like the logits, or plain True
  for the full gradient and REINFORCE. The released settings are lr 1e-3,
  b1 0, b2 0.999, no decay. Adam's count is global, so a logit's first update
  after t steps is up to sqrt((1 - b2^t) / (1 - b2)) times lr, as it is there.
  `weight_decay` times the logits is added to their gradient, before Adam.

  Example:
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
  adam = optax.chain(
    optax.add_decayed_weights(weight_decay), optax.adam(lr, b1, b2)
  )
  return optax.chain(drawn_only(adam), keep_pair_probability())
