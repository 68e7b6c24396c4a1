"""Shuffled, padded and dropped channels."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from proxyless_jax.nn.layers.channels import (
  channel_shuffle,
  fit_channels,
  pooled_shortcut,
)


def test_channel_shuffle_takes_one_of_each_group_in_turn():
  x = jnp.arange(12).reshape(1, 1, 2, 6)
  got = channel_shuffle(x, 3)
  assert_array_equal(got[0, 0, 0], [0, 2, 4, 1, 3, 5])
  assert_array_equal(channel_shuffle(got, 2), x)


@pytest.mark.parametrize("features", [2, 3, 5])
def test_channels_fit_by_zeros_or_by_dropping_the_last(features):
  x = jnp.arange(1.0, 13.0).reshape(1, 2, 2, 3)
  want = np.zeros((1, 2, 2, features))
  common = min(features, 3)
  want[..., :common] = x[..., :common]
  assert_array_equal(fit_channels(x, features), want)


def test_a_pooled_shortcut_averages_cells_then_appends_zeros(plain):
  x = np.random.default_rng(0).standard_normal((2, 5, 4, 3))
  got = pooled_shortcut(jnp.asarray(x, jnp.float32), 2, 4)
  assert_allclose(got[..., :3], plain.average(x, 2), rtol=1e-5, atol=1e-6)
  assert_array_equal(got[..., 3:], np.zeros((2, 3, 2, 1)))
