"""The recomputing switch against `lax.switch`."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.testing import assert_allclose

from proxyless_jax.nn.layers.switch import switch


def double(x, w):
  return 2.0 * x * w.sum()


def wave(x, w):
  return jnp.sin(x) * w[0] + jnp.cos(jnp.sin(x)) * w[1]


def nothing(x, w):
  del w
  return jnp.zeros_like(x)


BRANCHES = (double, wave, nothing)
X, W = jnp.arange(5.0), jnp.array([2.0, -3.0, 0.5])


def test_values_and_gradients_are_those_of_lax_switch():
  def loss(function, index, x, w):
    return jnp.sum(function(index, x, w) * jnp.arange(1.0, 6.0))

  def gradient(function):
    return jax.jit(
      jax.value_and_grad(lambda *args: loss(function, *args), (1, 2))
    )

  ours = gradient(lambda i, x, w: switch(BRANCHES, i, x, w))
  jaxs = gradient(lambda i, x, w: lax.switch(i, BRANCHES, x, w))
  for index in range(3):
    jax.tree.map(assert_allclose, ours(index, X, W), jaxs(index, X, W))


def test_only_the_index_and_the_operands_are_saved():
  def saved(function):
    _, pull = jax.vjp(lambda x, w: function(jnp.array(1), x, w), X, W)
    return sorted(np.shape(leaf) for leaf in jax.tree.leaves(pull))

  ours = saved(jax.jit(lambda i, x, w: switch(BRANCHES, i, x, w)))
  jaxs = saved(jax.jit(lambda i, x, w: lax.switch(i, BRANCHES, x, w)))
  assert ours == [(), (3,), (5,)]
  assert len(jaxs) > len(ours)
