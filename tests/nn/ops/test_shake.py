"""Shake-Shake's block in NumPy; its rules forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from proxyless_jax.nn.ops.shake import shake, shake_shake
from proxyless_jax.space import Edge, ShakeBlock

POSITIONS = [(4, 4, 1, 5), (3, 5, 1, 5), (3, 6, 2, 6), (3, 5, 2, (5, 8))]


def branch(plain, x, p, s, stride, train):
  y = plain.conv(plain.relu(x), p["conv1"]["kernel"], stride)
  y = plain.relu(plain.norm(y, p["bn1"], s["bn1"], train))
  y = plain.conv(y, p["conv2"]["kernel"])
  return plain.norm(y, p["bn2"], s["bn2"], train)


def shortcut(plain, x, p, s, stride, train):
  if "shortcut" not in p:
    return x
  p, s, x = p["shortcut"], s["shortcut"], plain.relu(x)
  sides = plain.strided(x, stride)
  pixels = np.zeros((2, len(x), *sides, x.shape[-1]))
  for i, j in np.ndindex(*sides):
    pixels[0][:, i, j] = x[:, stride * i, stride * j]
    if (i and j) or (stride * i and stride * j):
      pixels[1][:, i, j] = x[:, stride * i - 1, stride * j - 1]
  y = np.concatenate(
    [
      plain.conv(pixels[0], p["conv1"]["kernel"]),
      plain.conv(pixels[1], p["conv2"]["kernel"]),
    ],
    -1,
  )
  return plain.norm(y, p["bn"], s["bn"], train)


def parts(plain, x, p, s, stride, train):
  """Shortcut and both branches."""
  first, second = (
    branch(plain, x, p[name], s[name], stride, train)
    for name in ("branch1", "branch2")
  )
  return shortcut(plain, x, p, s, stride, train), first, second


@pytest.mark.parametrize("position", POSITIONS)
def test_evaluation_mixes_evenly(plain, position):
  features_in, features_out, stride, size = position
  op = ShakeBlock()
  edge = Edge("any", (op,), features_in, features_out, stride, size)

  def definition(x, p, s, train):
    x, first, second = parts(plain, x, p, s, stride, train)
    return x + 0.5 * first + 0.5 * second

  plain.check(op, edge, definition, train=False)


@pytest.mark.parametrize("position", POSITIONS)
def test_training_mixes_each_example_at_random(plain, position):
  features_in, features_out, stride, size = position
  op = ShakeBlock()
  edge = Edge("any", (op,), features_in, features_out, stride, size)
  variables, x = plain.variables_of(op, edge), plain.images_of(edge)
  p, s = variables["params"], variables["batch_stats"]
  y = plain.run(op, edge, variables, x, True, jax.random.key(3))
  x, first, second = parts(plain, x.astype(np.float64), p, s, stride, True)
  # y = x + second + a * (first - second), with one a for each example.
  rest, span = np.asarray(y) - x - second, first - second
  a = (rest * span).sum((1, 2, 3)) / (span * span).sum((1, 2, 3))
  assert_allclose(rest, a[:, None, None, None] * span, atol=1e-3)
  assert np.all((a > 0.0) & (a < 1.0)) and len(set(a.round(4))) == len(a)


def test_shake_has_one_factor_forward_and_another_backward():
  x = jnp.array([[[[1.0, -2.0]]], [[[3.0, 0.5]]]])
  forward = jnp.array([2.0, -1.0]).reshape(2, 1, 1, 1)
  backward = jnp.array([0.5, 0.25]).reshape(2, 1, 1, 1)
  y, pull = jax.vjp(lambda x: shake(x, forward, backward), x)
  assert_array_equal(y, x * forward)
  assert_array_equal(pull(3.0 * jnp.ones_like(y))[0], 3.0 * backward + 0.0 * x)
  half = x.astype(jnp.bfloat16)
  y, pull = jax.vjp(lambda x: shake(x, forward, backward), half)
  assert y.dtype == pull(y)[0].dtype == jnp.bfloat16


def test_shake_shake_draws_mixtures_per_example_and_pass():
  one, other = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])

  def draw(key):
    # Channel 0 tells the coefficient of one branch, channel 1 the other's.
    pair = [jnp.broadcast_to(v, (3, 1, 1, 2)) for v in (one, other)]
    y, pull = jax.vjp(lambda *pair: shake_shake(key, *pair), *pair)
    return y[:, 0, 0], jnp.stack([d[:, 0, 0, 0] for d in pull(0 * y + 1)], -1)

  keys = jax.random.split(jax.random.key(0), 2000)
  forward, backward = map(np.asarray, jax.jit(jax.vmap(draw))(keys))
  for coefficients in (forward, backward):
    assert_allclose(coefficients.sum(-1), 1.0, rtol=1e-6)
    first = coefficients[..., 0]
    assert 0.0 <= first.min() < 0.01 and 0.99 < first.max() <= 1.0
    assert abs(first.mean() - 0.5) < 0.02
    assert abs(first.var() - 1 / 12) < 0.005
    assert abs(np.corrcoef(first[:, 0], first[:, 1])[0, 1]) < 0.1
  passes = forward[..., 0].ravel(), backward[..., 0].ravel()
  assert abs(np.corrcoef(*passes)[0, 1]) < 0.06


def test_what_the_block_refuses():
  with pytest.raises(ValueError, match="a stride only where the width changes"):
    Edge("any", (ShakeBlock(),), 4, 4, 2, 6)
  with pytest.raises(ValueError, match="a shortcut of its own"):
    Edge("any", (ShakeBlock(),), 4, 4, 1, 6, shortcut=True)
