"""Gradients of the dense convolution, as written out for CPU, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from numpy.testing import assert_allclose

from proxyless_jax.nn.layers.conv import conv


def native(x, kernel, stride):
  pad = kernel.shape[0] // 2
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(stride, stride),
    padding=[(pad, pad)] * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_gradients_are_those_of_xla(size, stride):
  rng = np.random.default_rng(0)
  with jax.enable_x64(True):
    kernel = jnp.asarray(rng.standard_normal((size, size, 3, 4)))
    for spatial in ((7, 7), (9, 6)):
      x = jnp.asarray(rng.standard_normal((2, *spatial, 3)))
      y, pull = jax.vjp(functools.partial(conv, stride=stride), x, kernel)
      want, native_pull = jax.vjp(
        functools.partial(native, stride=stride), x, kernel
      )
      assert_allclose(y, want, rtol=1e-12, atol=1e-12)
      dy = jnp.asarray(rng.standard_normal(y.shape))
      for got, expected in zip(pull(dy), native_pull(dy)):
        assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_other_platforms_use_their_own_gradients():
  x, kernel = jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 2, 2))

  def grads(x, kernel):
    return jax.grad(lambda *args: conv(*args, 1).sum(), (0, 1))(x, kernel)

  for platform, loops in (("cpu", True), ("cuda", False)):
    program = export.export(jax.jit(grads), platforms=[platform])(x, kernel)
    assert ("stablehlo.while" in program.mlir_module()) is loops
