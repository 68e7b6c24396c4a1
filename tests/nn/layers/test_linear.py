"""Layers against plain definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from numpy.testing import assert_allclose

from proxyless_jax.nn.layers.linear import Conv, Conv1x1


@pytest.mark.parametrize(
  "kernel,stride,size", [(3, 2, 7), (5, 1, 6), (1, 2, 6)]
)
def test_conv_pads_half_a_kernel_on_each_side(kernel, stride, size):
  rng = np.random.default_rng(0)
  x = rng.standard_normal((2, size, size, 3)).astype(np.float32)
  module = Conv(4, kernel, stride)
  variables = module.init(jax.random.key(0), x)
  w = np.asarray(variables["params"]["kernel"])
  assert w.shape == (kernel, kernel, 3, 4)
  pad = kernel // 2
  padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  out = -(-size // stride)
  want = np.zeros((2, out, out, 4), np.float32)
  for i, j in np.ndindex(out, out):
    a, b = i * stride, j * stride
    patch = padded[:, a : a + kernel, b : b + kernel]
    want[:, i, j] = np.einsum("bhwc,hwcf->bf", patch, w)
  assert_allclose(module.apply(variables, x), want, rtol=1e-4, atol=1e-5)


def test_conv1x1_is_a_convolution():
  x = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
  module = Conv1x1(6)
  variables = module.init(jax.random.key(1), x)
  want = lax.conv_general_dilated(
    x,
    variables["params"]["kernel"],
    (1, 1),
    "VALID",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  assert_allclose(module.apply(variables, x), want, rtol=1e-4, atol=1e-5)
  half = module.apply(variables, x.astype(jnp.bfloat16))
  assert half.dtype == jnp.bfloat16
