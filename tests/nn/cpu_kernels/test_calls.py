"""The kernels in C++ against plain definitions in float64."""

import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from proxyless_jax.nn import cpu_kernels
from proxyless_jax.nn.cpu_kernels.build import COMPILERS
from proxyless_jax.nn.layers import batch_norm, depthwise, norm_depthwise

# Where a compiler is, the sources have to compile.
if jax.default_backend() != "cpu" or not any(map(shutil.which, COMPILERS)):
  pytest.skip("no C++ compiler, or no CPU", allow_module_level=True)


def test_the_sources_compile():
  assert cpu_kernels.available()


# (b, h, w, c), k, stride: channels of whole and broken blocks of 8 and 16,
# maps smaller than the kernel, rows of several bands and tiles, every number of
# outputs in a tile, more images than parts of the batch.
CASES = [
  ((2, 8, 8, 3), 3, 1),
  ((1, 1, 1, 17), 3, 2),
  ((2, 3, 2, 5), 7, 1),
  ((3, 9, 7, 40), 5, 1),
  ((19, 5, 6, 16), 3, 1),
  ((2, 13, 11, 24), 7, 2),
  ((2, 11, 10, 8), 9, 3),
  ((1, 6, 5, 33), 1, 2),
  ((1, 7, 8, 4), 1, 3),
  ((1, 96, 101, 16), 5, 1),
  ((1, 100, 120, 7), 3, 2),
]


def pixels_of_taps(shape, k, stride):
  """For each tap, which pixels of the padded map the windows see."""
  _, h, w, _ = shape
  rows, columns = -(-h // stride), -(-w // stride)
  for i in range(k):
    for j in range(k):
      yield (
        (i, j),
        np.s_[
          :,
          i : i + stride * (rows - 1) + 1 : stride,
          j : j + stride * (columns - 1) + 1 : stride,
        ],
      )


def reference(x, kernel, dy, stride):
  """Output and both gradients, a tap after the other."""
  k, pad = kernel.shape[0], kernel.shape[0] // 2
  _, h, w, _ = x.shape
  padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  y, dx, dkernel = np.zeros_like(dy), np.zeros_like(padded), []
  for (i, j), seen in pixels_of_taps(x.shape, k, stride):
    y += padded[seen] * kernel[i, j]
    dx[seen] += dy * kernel[i, j]
    dkernel.append((padded[seen] * dy).sum((0, 1, 2)))
  dkernel = np.reshape(dkernel, kernel.shape)
  return y, dx[:, pad : pad + h, pad : pad + w], dkernel


@pytest.mark.parametrize("shape, k, stride", CASES)
def test_depthwise(shape, k, stride):
  b, h, w, c = shape
  rng = np.random.default_rng(0)
  x = rng.standard_normal(shape)
  kernel = rng.standard_normal((k, k, 1, c))
  dy = rng.standard_normal((b, -(-h // stride), -(-w // stride), c))
  want = reference(x, kernel, dy, stride)
  x, kernel, dy = (jnp.asarray(a, jnp.float32) for a in (x, kernel, dy))

  def conv(x, kernel):
    return depthwise.depthwise_conv(x, kernel, stride, train=True)

  @jax.jit
  def run(x, kernel, dy):
    y, pull = jax.vjp(conv, x, kernel)
    return y, *pull(dy)

  text = run.lower(x, kernel, dy).as_text()
  assert text.count("call @proxyless_jax_depthwise") == 3
  for got, exact in zip(run(x, kernel, dy), want):
    assert_allclose(got, exact, rtol=1e-5, atol=1e-5 * np.abs(exact).max())


def norm_reference(x, dy, scale, bias, ceiling):
  """Output, moments and gradients by the definition."""
  mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
  rstd = 1 / np.sqrt(var + 1e-3)
  normal = (x - mean) * rstd
  y = normal * scale + bias
  if ceiling is not None:
    dy = dy * ((y > 0) & (y < ceiling))
    y = np.clip(y, 0, ceiling)
  dbias, dscale = dy.sum((0, 1, 2)), (dy * normal).sum((0, 1, 2))
  # Through the mean and the variance too.
  own = dy * scale
  dx = rstd * (
    own - own.mean((0, 1, 2)) - normal * (own * normal).mean((0, 1, 2))
  )
  return y, mean, var, dx, dscale, dbias


@pytest.mark.parametrize("activation", ["relu6", "relu", "linear"])
@pytest.mark.parametrize(
  "shape", [(2, 3, 3, 5), (3, 20, 9, 16), (1, 3, 1, 24), (5, 16, 16, 40)]
)
def test_batch_norm(shape, activation):
  rng = np.random.default_rng(1)
  x, dy = 2 + 3 * rng.standard_normal(shape), rng.standard_normal(shape)
  scale = 2 + rng.standard_normal(shape[-1])
  bias = 2 + rng.standard_normal(shape[-1])
  ceiling = batch_norm.CEILINGS[activation]
  want = norm_reference(x, dy, scale, bias, ceiling)

  def norm(x, scale, bias):
    moments = batch_norm.batch_moments(jax.lax.stop_gradient(x))
    y = batch_norm.batch_norm(x, scale, bias, moments, 1e-3, activation)
    return y, moments

  @jax.jit
  def run(x, dy, scale, bias):
    y, pull, moments = jax.vjp(norm, x, scale, bias, has_aux=True)
    return y, *moments, *pull(dy)

  arrays = [jnp.asarray(a, jnp.float32) for a in (x, dy, scale, bias)]
  text = run.lower(*arrays).as_text()
  assert text.count("call @proxyless_jax_") == 4
  for got, exact in zip(run(*arrays), want):
    largest = max(np.abs(exact).max(), 1e-2)
    assert_allclose(got, exact, rtol=1e-4, atol=2e-5 * largest)


@pytest.mark.parametrize("activation", ["relu6", "relu", "linear"])
@pytest.mark.parametrize("shape, k, stride", CASES[3:7])
def test_batch_norm_and_depthwise_together(shape, k, stride, activation):
  """As one after the other; and the normalised map is nowhere."""
  keys = jax.random.split(jax.random.key(0), 3)
  x = 2 + 3 * jax.random.normal(keys[0], shape)
  kernel = jax.random.normal(keys[1], (k, k, 1, shape[-1]))
  module = batch_norm.BatchNorm(activation)
  variables = module.init(keys[2], x, True)
  scale = jnp.linspace(0.5, 3.0, shape[-1])
  params = {"scale": scale, "bias": 2 - scale}

  def outputs(x, kernel, params, method):
    own = {**variables, "params": params}
    y, _ = module.apply(own, x, True, mutable=["batch_stats"], method=method)
    return norm_depthwise.conv_of(y, kernel, stride, 1, True)

  def gradients(method):
    def loss(*args):
      y = outputs(*args, method)
      return jnp.sum(jnp.sin(jnp.arange(y.size).reshape(y.shape)) * y), y

    run = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))
    args = x, kernel, params
    text = run.lower(*args).as_text()
    return run(*args), text.count("call @proxyless_jax_normalise")

  together, passes = gradients("later")
  assert passes == 0
  one_by_one, passes = gradients(None)
  assert passes == 1
  for got, want in zip(jax.tree.leaves(together), jax.tree.leaves(one_by_one)):
    tolerance = 1e-5 * max(float(jnp.abs(want).max()), 1.0)
    assert_allclose(got, want, rtol=1e-4, atol=tolerance)


def test_moments_of_many_pixels_far_from_zero():
  x = 10 + np.random.default_rng(0).standard_normal((64, 32, 32, 8))
  x = x.astype(np.float32)
  mean, var = batch_norm.batch_moments(jnp.asarray(x))
  wide = x.astype(np.float64)
  assert_allclose(mean, wide.mean((0, 1, 2)), rtol=3e-7)
  # As exact as float32 squares allow.
  assert_allclose(var, wide.var((0, 1, 2)), rtol=5e-5)


@pytest.mark.parametrize("shape", [(3, 3, 1, 4), (2, 2, 1, 12), (3, 5, 1, 12)])
def test_kernels_of_another_shape_are_refused(shape):
  x, kernel = jnp.ones((1, 4, 4, 12)), jnp.ones(shape)
  with pytest.raises(Exception, match="kernel: expected f32"):
    jax.block_until_ready(cpu_kernels.depthwise(x, kernel, 1))
  module = batch_norm.BatchNorm()
  y, _ = module.init_with_output(jax.random.key(0), x, True, method="later")
  with pytest.raises(ValueError, match="kernel has shape"):
    norm_depthwise.conv_of(y, kernel, 1, 1, True)


def test_what_is_not_finite_stays_so():
  x = np.ones((1, 2, 2, 20), np.float32)
  x[0, 0, 0, 0], x[0, 1, 1, 19] = np.nan, np.inf
  one, zero = jnp.ones(20), jnp.zeros(20)
  call = functools.partial(cpu_kernels.normalise, ceiling=6.0)
  y = np.asarray(call(jnp.asarray(x), zero, one, one, zero))
  assert np.isnan(y[0, 0, 0, 0]) and y[0, 1, 1, 19] == 6.0
  assert np.isnan(y).sum() == 1
  means = cpu_kernels.batch_means(jnp.asarray(x))
  assert np.isnan(means[0][0]) and np.isinf(means[1][19])


def test_the_same_numbers_each_time():
  x = jax.random.normal(jax.random.key(0), (40, 16, 16, 24))
  dy = jax.random.normal(jax.random.key(1), x.shape)
  kernel = jax.random.normal(jax.random.key(2), (5, 5, 1, 24))
  call = functools.partial(cpu_kernels.depthwise_kernel_gradient, stride=1)
  first = call(x, kernel, dy), *cpu_kernels.batch_means(x)
  for _ in range(3):
    again = call(x, kernel, dy), *cpu_kernels.batch_means(x)
    for got, want in zip(again, first):
      assert_array_equal(got, want)


def test_vectorised_maps():
  x = jax.random.normal(jax.random.key(0), (3, 2, 5, 5, 4))
  kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 1, 4))
  conv = functools.partial(depthwise.depthwise_conv, train=True)
  got = jax.jit(jax.vmap(conv))(x, kernel)
  for i in range(3):
    assert_array_equal(got[i], conv(x[i], kernel[i]))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_types_run_by_xla(dtype):
  x = jnp.ones((1, 4, 4, 2), dtype)
  conv = functools.partial(depthwise.depthwise_conv, train=True)
  lowered = jax.jit(conv).lower(x, jnp.ones((3, 3, 1, 2), dtype))
  assert "proxyless_jax" not in lowered.as_text()


def test_other_platforms_run_by_xla():
  x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 1, 2))
  conv = jax.jit(functools.partial(depthwise.depthwise_conv, train=True))
  lowered = conv.trace(x, kernel).lower(lowering_platforms=("cuda",))
  assert "proxyless_jax" not in lowered.as_text()


def test_an_empty_batch_runs_by_xla():
  conv = functools.partial(depthwise.depthwise_conv, train=True)
  assert conv(jnp.ones((0, 4, 4, 2)), jnp.ones((3, 3, 1, 2))).shape[0] == 0
