"""Pools against XLA's own windows, outputs and gradients."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from proxyless_jax.nn.layers.pooling import avg_pool, max_pool


def native(pool, kernel, stride):
  padding = ((kernel // 2,) * 2,) * 2
  sizes = ((kernel,) * 2, (stride,) * 2, padding)
  if pool is max_pool:
    return lambda x: nn.max_pool(x, *sizes)
  return lambda x: nn.avg_pool(x, *sizes, count_include_pad=False)


@functools.partial(jax.jit, static_argnums=0)
def output_and_gradient(function, x, dy):
  y, pull = jax.vjp(function, x)
  return y, pull(dy)[0]


@pytest.mark.parametrize("kernel, stride", [(3, 1), (3, 2), (5, 2), (1, 1)])
@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_outputs_and_gradients_are_those_of_xla(pool, kernel, stride):
  """Few values, so that windows have ties: the first in reading order wins."""
  rng = np.random.default_rng(0)
  for shape in ((2, 7, 7, 3), (2, 6, 9, 3)):
    x = jnp.asarray(rng.integers(0, 3, shape), jnp.float32)
    shape = *shape[:1], *(-(-side // stride) for side in shape[1:3]), 3
    dy = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    ours = functools.partial(pool, kernel=kernel, stride=stride)
    y, dx = output_and_gradient(ours, x, dy)
    want_y, want_dx = output_and_gradient(native(pool, kernel, stride), x, dy)
    assert_allclose(y, want_y, rtol=1e-6)
    assert_allclose(dx, want_dx, rtol=1e-5, atol=1e-6)


def test_types_stay_and_nan_is_not_hidden():
  x = jnp.ones((1, 4, 4, 2), jnp.bfloat16)
  for pool in (max_pool, avg_pool):
    y, pull = jax.vjp(lambda x, pool=pool: pool(x, 3, 1), x)
    assert y.dtype == pull(y)[0].dtype == jnp.bfloat16
    assert jnp.isnan(pool(x.at[0, 0, 0, 0].set(jnp.nan), 3, 1)[0, 1, 1, 0])


def test_padding_is_never_the_maximum():
  assert_array_equal(max_pool(jnp.full((1, 3, 3, 1), -5.0), 3, 1), -5.0)
