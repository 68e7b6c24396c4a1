"""Rows of banks are put back in place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from proxyless_jax.nn.supernet.rows import get_rows, put_rows


@pytest.mark.parametrize("edges", (1, 3))
def test_rows_are_put_where_they_were(edges):
  bank = np.arange(edges * 4 * 5, dtype=np.float32).reshape(edges, 4, 5)
  index = np.array([2, 0, 3])[:edges]
  found = jax.jit(put_rows)(index, -get_rows(index, bank), bank)
  expected = bank.copy()
  for edge, row in enumerate(index):
    expected[edge, row] *= -1
  assert_array_equal(found, expected)


@pytest.mark.parametrize("edges", (1, 3))
def test_a_step_of_drawn_rows_copies_no_bank(edges):
  """Of the weights and their momentum, each of which needs the other's row."""

  def step(weights, momentum, index, gradient):
    velocity = 0.9 * get_rows(index, momentum) + gradient
    row = get_rows(index, weights) - 0.1 * velocity
    return put_rows(index, row, weights), put_rows(index, velocity, momentum)

  bank, row = jnp.zeros((edges, 6, 1 << 14)), jnp.ones((edges, 1, 1 << 14))
  jitted = jax.jit(step, donate_argnums=(0, 1))
  lowered = jitted.lower(bank, bank, jnp.zeros(edges, jnp.int32), row)
  needed = lowered.compile().memory_analysis().temp_size_in_bytes
  assert needed < 0.5 * bank.nbytes
