"""Dropout of values and of paths, the same on any number of devices."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from proxyless_jax.parallel.collectives import per_example


def drop_path(key: jax.Array, y: jax.Array, rate: jax.Array) -> jax.Array:
  """Zeroes whole examples of f[b, h, w, c], and scales up the others.

  Huang et al., ECCV 2016; in the scaling of Larsson et al., ICLR 2017: the
  mean over draws is `y`.

  Args:
    key: PRNG key.
    y: f[b, h, w, c], output of a path that is added to others.
    rate: f[], probability that an example's path is dropped; below 1.

  Returns:
    f[b, h, w, c].
  """
  # Drawn for the whole batch, of which each device takes its examples: so that
  # the numbers do not depend on how many devices there are.
  kept = per_example(
    lambda n: jax.random.bernoulli(key, 1.0 - rate, (n, 1, 1, 1)), y.shape[0]
  )
  return jnp.where(kept, y / (1.0 - rate), 0.0).astype(y.dtype)


def dropout_key(module: nn.Module) -> jax.Array:
  """A PRNG key from a module's stream 'dropout'.

  Raises:
    ValueError: the caller of `apply` passed no such stream.
  """
  if not module.has_rng("dropout"):
    raise ValueError(
      "rngs: expected apply(..., rngs={'dropout': key}) for a network that "
      "drops values or paths in training, such as key = jax.random.key(0)"
    )
  return module.make_rng("dropout")


class Dropout(nn.Module):
  """Zeroes single values of f[b, ...] in training, and scales up the others.

  Attributes:
    rate: probability that a value is dropped; below 1.
  """

  rate: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    if not train or self.rate == 0.0:
      return x
    key = dropout_key(self)
    # For the whole batch, whatever the number of devices: see `drop_path`.
    kept = per_example(
      lambda n: jax.random.bernoulli(key, 1.0 - self.rate, (n, *x.shape[1:])),
      x.shape[0],
    )
    return jnp.where(kept, x / (1.0 - self.rate), 0.0).astype(x.dtype)
