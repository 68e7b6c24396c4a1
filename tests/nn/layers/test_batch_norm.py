"""Batch norm against autodiff, flax's own and the plain definition."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from numpy.testing import assert_allclose, assert_array_equal

from proxyless_jax.nn.layers.batch_norm import (
  MUTATED,
  REUSED_MOMENTS,
  BatchNorm,
  batch_moments,
  batch_norm,
)

EPSILON = 1e-3


def normalised(x, scale, bias, activation):
  """(y, mean, var) of a batch."""
  moments = batch_moments(lax.stop_gradient(x))
  return batch_norm(x, scale, bias, moments, EPSILON, activation), *moments


def plain_batch_norm(x, scale, bias, activation):
  mean = jnp.mean(x, (0, 1, 2))
  var = jnp.mean((x - mean) ** 2, (0, 1, 2))
  y = (x - mean) / jnp.sqrt(var + EPSILON) * scale + bias
  y = jnp.maximum(y, 0.0) if activation != "linear" else y
  y = jnp.minimum(y, 6.0) if activation == "relu6" else y
  return y, mean, var


def example(dtype=np.float64):
  rng = np.random.default_rng(0)
  x = 2.0 + 3.0 * rng.standard_normal((4, 5, 3, 2))
  scale, bias = np.array([3.0, -2.0]), np.array([0.5, 1.0])
  cotangent = rng.standard_normal(x.shape)
  return [a.astype(dtype) for a in (x, scale, bias, cotangent)]


@pytest.mark.parametrize("activation", ["linear", "relu", "relu6"])
def test_batch_norm_and_its_gradients(activation):
  with jax.enable_x64(True):
    *args, cotangent = map(jnp.asarray, example())
    fast = functools.partial(normalised, activation=activation)
    plain = functools.partial(plain_batch_norm, activation=activation)
    for got, want in zip(fast(*args), plain(*args)):
      assert got.dtype == jnp.float64
      assert_allclose(got, want, rtol=1e-12, atol=1e-14)
    y = fast(*args)[0]
    if activation == "relu6":  # Both ends of the clip take part.
      assert (y == 0.0).any() and (y == 6.0).any()

    def loss(function, *args):
      return jnp.sum(function(*args)[0] * cotangent)

    got, want = (
      jax.grad(functools.partial(loss, f), (0, 1, 2))(*args)
      for f in (fast, plain)
    )
    jax.tree.map(
      functools.partial(assert_allclose, rtol=1e-10, atol=1e-11), got, want
    )


@pytest.mark.parametrize("train", [True, False])
def test_batch_norm_is_flaxs_own(train):
  with jax.enable_x64(True):
    x, scale, bias, _ = map(jnp.asarray, example())
    stats = {"mean": jnp.array([0.5, -1.0]), "var": jnp.array([2.0, 0.3])}
    variables = {
      "params": {"scale": scale, "bias": bias},
      "batch_stats": stats,
    }
    ours = BatchNorm(momentum=0.8, epsilon=EPSILON)
    flaxs = nn.BatchNorm(
      not train,
      momentum=0.8,
      epsilon=EPSILON,
      dtype=jnp.float64,
      use_fast_variance=False,
    )
    got = ours.apply(variables, x, train, mutable=["batch_stats"])
    want = flaxs.apply(variables, x, mutable=["batch_stats"])
    jax.tree.map(functools.partial(assert_allclose, rtol=1e-12), got, want)
    if not train:
      jax.tree.map(assert_array_equal, got[1]["batch_stats"], stats)


@pytest.mark.parametrize("shape", [(4, 3), (4, 5, 3), (2, 4, 4, 4, 3)])
def test_other_ranks_are_refused(shape):
  with pytest.raises(ValueError, match=r"expected \[b, h, w, c\]"):
    BatchNorm().init(jax.random.key(0), jnp.ones(shape), True)


def test_initial_statistics_are_untouched_by_initialisation():
  variables = BatchNorm().init(
    jax.random.key(0), 7.0 + jnp.ones((2, 1, 1, 3)), True
  )
  assert_array_equal(variables["batch_stats"]["mean"], np.zeros(3))
  assert_array_equal(variables["batch_stats"]["var"], np.ones(3))


def test_momentum_zero_keeps_the_last_batch_alone():
  x, *_ = example(np.float32)
  module = BatchNorm(momentum=0.0)
  variables = module.init(jax.random.key(0), x, True)
  _, new = module.apply(variables, x, True, mutable=["batch_stats"])
  assert_allclose(new["batch_stats"]["mean"], x.mean((0, 1, 2)), rtol=1e-5)
  assert_allclose(new["batch_stats"]["var"], x.var((0, 1, 2)), rtol=1e-4)


def test_bfloat16_has_float32_statistics_and_gradients():
  x, scale, bias, cotangent = map(jnp.asarray, example(np.float32))
  half = x.astype(jnp.bfloat16)
  y, mean, var = normalised(half, scale, bias, "linear")
  assert y.dtype == jnp.bfloat16
  assert mean.dtype == var.dtype == jnp.float32
  wide = np.asarray(half, np.float32)
  assert_allclose(mean, wide.mean((0, 1, 2)), rtol=1e-5)
  assert_allclose(var, wide.var((0, 1, 2)), rtol=1e-4)
  want = plain_batch_norm(wide, scale, bias, "linear")[0]
  assert_allclose(np.asarray(y, np.float32), want, rtol=2**-8, atol=1e-6)

  def loss(x, scale, bias):
    y, *_ = normalised(x, scale, bias, "linear")
    return jnp.sum(y.astype(jnp.float32) * cotangent)

  grads = jax.grad(loss, (0, 1, 2))(half, scale, bias)
  assert [g.dtype for g in grads] == [jnp.bfloat16, jnp.float32, jnp.float32]


def test_float64_activations_with_float32_parameters():
  """Gradients and running statistics keep the dtype of what they are for."""
  with jax.enable_x64(True):
    x = jnp.asarray(example()[0])
    module = BatchNorm()
    variables = module.init(jax.random.key(0), x, True)

    def loss(params):
      y, new = module.apply(
        {**variables, "params": params}, x, True, mutable=["batch_stats"]
      )
      return jnp.sum(y**3), new

    grads, new = jax.grad(loss, has_aux=True)(variables["params"])
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((grads, new))}
    assert dtypes == {jnp.dtype(jnp.float32)}


def test_constant_input_gives_the_bias():
  """The variance is never below zero, whatever its rounding."""
  x = jnp.full((64, 4, 4, 1), 1000.1)
  y, _, var = normalised(x, jnp.ones(1), jnp.array([0.5]), "linear")
  assert var[0] >= 0.0
  assert np.isfinite(y).all()


class Shared(nn.Module):
  """One norm, on two maps."""

  @nn.compact
  def __call__(self, x):
    norm = BatchNorm(name="norm")
    return norm(x, True), norm(3.0 * x + 1.0, True)


def test_a_norm_that_is_called_twice_has_moments_of_each_map():
  x = jnp.asarray(example(np.float32)[0])
  variables = Shared().init(jax.random.key(0), x)
  y, mutated = Shared().apply(variables, x, mutable=MUTATED)
  for one in y:
    assert_allclose(one.mean((0, 1, 2)), 0.0, atol=1e-5)
  assert jax.tree.leaves(mutated["moments"])[0].shape == (2,)
  assert len(jax.tree.leaves(mutated["moments"])) == 4
  given = {**variables, REUSED_MOMENTS: mutated["moments"]}
  again, _ = Shared().apply(given, x, mutable=MUTATED)
  assert_array_equal(again, y)
  given = {
    **variables,
    REUSED_MOMENTS: jax.tree.map(lambda m: m + 1, mutated["moments"]),
  }
  other, _ = Shared().apply(given, x, mutable=MUTATED)
  assert not any(np.allclose(a, b) for a, b in zip(other, y))
