"""Depthwise convolution: values and gradients against plain references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from proxyless_jax.nn.layers.depthwise import depthwise_conv

# (h, w), k, stride: even and odd maps, smaller than the kernel and larger than
# one block of the kernel gradient.
CASES = [
  ((8, 8), 3, 1),
  ((8, 8), 5, 1),
  ((8, 8), 7, 1),
  ((8, 8), 3, 2),
  ((8, 8), 5, 2),
  ((8, 8), 7, 2),
  ((7, 9), 3, 2),
  ((7, 9), 5, 1),
  ((7, 9), 7, 2),
  ((1, 1), 3, 2),
  ((2, 3), 7, 1),
  ((3, 2), 5, 2),
  ((35, 20), 3, 1),
  ((18, 37), 5, 2),
  ((6, 5), 1, 2),
  ((11, 10), 9, 3),
]


def reference(x, kernel, g, stride):
  """Output and both gradients by definition, position by position."""
  k = kernel.shape[0]
  p = k // 2
  _, h, w, _ = x.shape
  padded = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
  out = np.zeros_like(g)
  dx, dkernel = np.zeros_like(padded), np.zeros_like(kernel)
  for i in range(g.shape[1]):
    for j in range(g.shape[2]):
      at = np.s_[:, stride * i : stride * i + k, stride * j : stride * j + k]
      out[:, i, j] = (padded[at] * kernel[:, :, 0]).sum((1, 2))
      here = g[:, i, None, j, None]
      dx[at] += here * kernel[:, :, 0]
      dkernel[:, :, 0] += (padded[at] * here).sum(0)
  return out, dx[:, p : p + h, p : p + w], dkernel


def native(x, kernel, stride, dilation=1):
  p = dilation * (kernel.shape[0] // 2)
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    [(p, p), (p, p)],
    rhs_dilation=(dilation, dilation),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1],
  )


def arrays(size, k, stride, batch=4, channels=3):
  h, w = size
  rng = np.random.default_rng(0)
  x = rng.normal(size=(batch, h, w, channels))
  kernel = rng.normal(size=(k, k, 1, channels))
  g = rng.normal(size=(batch, -(-h // stride), -(-w // stride), channels))
  return x, kernel, g


def value_and_gradients(conv, x, kernel, g, stride):
  @jax.jit
  def run(x, kernel, g):
    out, vjp = jax.vjp(lambda x, kernel: conv(x, kernel, stride), x, kernel)
    return out, *vjp(g)

  return run(*map(jnp.asarray, (x, kernel, g)))


@pytest.mark.parametrize("size, k, stride", CASES)
def test_equals_definition_and_native(size, k, stride):
  args = arrays(size, k, stride)
  with jax.enable_x64(True):
    ours = value_and_gradients(depthwise_conv, *args, stride)
    lax_ones = value_and_gradients(native, *args, stride)
  for got, by_lax, want in zip(ours, lax_ones, reference(*args, stride)):
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, want, atol=1e-11)
    np.testing.assert_allclose(got, by_lax, atol=1e-11)


@pytest.mark.parametrize(
  "size, k, stride, dilation",
  [
    ((8, 8), 3, 1, 2),
    ((7, 9), 5, 1, 2),
    ((1, 2), 3, 1, 3),
    ((8, 7), 3, 2, 2),
    ((11, 10), 3, 4, 2),
  ],
)
def test_dilated_equals_native(size, k, stride, dilation):
  args = arrays(size, k, stride)

  def dilated(conv):
    return lambda x, kernel, stride: conv(x, kernel, stride, dilation)

  with jax.enable_x64(True):
    ours = value_and_gradients(dilated(depthwise_conv), *args, stride)
    lax_ones = value_and_gradients(dilated(native), *args, stride)
  for got, want in zip(ours, lax_ones):
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=1e-11)


@pytest.mark.parametrize("stride, dilation", [(1, 0), (3, 2), (2, 3)])
def test_dilations_that_do_not_fit_are_refused(stride, dilation):
  with pytest.raises(ValueError, match=f"dilation(?: is)? {dilation}"):
    depthwise_conv(
      jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 1, 2)), stride, dilation
    )


@pytest.mark.parametrize("batch", [1, 2, 3, 6])
def test_any_batch(batch):
  args = arrays((5, 6), 3, 1, batch=batch)
  got = value_and_gradients(
    depthwise_conv, *(a.astype(np.float32) for a in args), 1
  )
  for a, b in zip(got, reference(*args, 1)):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_bfloat16_sums_in_float32():
  args = [jnp.asarray(a, jnp.bfloat16) for a in arrays((20, 17), 5, 1)]
  got = value_and_gradients(depthwise_conv, *args, 1)
  want = reference(*(np.asarray(a, np.float64) for a in args), 1)
  for a, b in zip(got, want):
    assert a.dtype == jnp.bfloat16
    # One rounding to 8 bits of the exact sum: terms are not rounded.
    np.testing.assert_allclose(
      np.asarray(a, np.float64), b, rtol=2**-8, atol=1e-4
    )


def test_inside_switch_and_scan():
  x, kernel, g = (jnp.asarray(a, jnp.float32) for a in arrays((6, 6), 3, 1))
  small = jnp.ones((1, 1, 1, 3))

  def loss(kernel, index):
    def step(x, _):
      branches = [
        lambda x: depthwise_conv(x, small),
        lambda x: depthwise_conv(x, kernel),
      ]
      return lax.switch(index, branches, x), None

    return jnp.vdot(lax.scan(step, x, length=2)[0], g)

  def plain(kernel):
    return jnp.vdot(native(native(x, kernel, 1), kernel, 1), g)

  grad = jax.jit(jax.grad(loss))
  np.testing.assert_allclose(
    grad(kernel, 1), jax.grad(plain)(kernel), rtol=1e-4, atol=1e-4
  )
  np.testing.assert_array_equal(grad(kernel, 0), 0)


@pytest.mark.parametrize(
  "platform, convolutions",
  [
    ("cpu", 0),
    ("cuda", 3),
    ("tpu", 3),
  ],
)
def test_platform_chooses_formulation(platform, convolutions):
  args = [jnp.asarray(a, jnp.float32) for a in arrays((8, 8), 3, 2)]

  def run(x, kernel, g):
    out, vjp = jax.vjp(lambda *a: depthwise_conv(*a, 2), x, kernel)
    return out, vjp(g)

  lowered = jax.jit(run).trace(*args).lower(lowering_platforms=(platform,))
  assert lowered.as_text().count("stablehlo.convolution(") == convolutions


@pytest.mark.parametrize(
  "x, kernel, stride, message",
  [
    ((4, 4, 2), (3, 3, 1, 2), 1, "x has shape"),
    ((1, 4, 4, 2), (3, 3, 2, 1), 1, r"expected \[k, k, 1, 2\]"),
    ((1, 4, 4, 2), (2, 2, 1, 2), 1, "k odd"),
    ((1, 4, 4, 2), (3, 5, 1, 2), 1, "square"),
    ((1, 4, 4, 2), (3, 3, 1, 2), 0, "stride is 0"),
  ],
)
def test_errors_name_the_argument(x, kernel, stride, message):
  with pytest.raises(ValueError, match=message):
    depthwise_conv(jnp.zeros(x), jnp.zeros(kernel), stride)


def test_rejects_mixed_types():
  with pytest.raises(ValueError, match="bfloat16"):
    depthwise_conv(jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 1, 2), "bfloat16"))
