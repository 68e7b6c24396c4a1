"""PyramidNet's block in NumPy; the rules of ShakeDrop."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from proxyless_jax.nn.ops.pyramid import shake_drop
from proxyless_jax.space import Edge, PyramidBlock, parse_op

HALF = Fraction(1, 2)


def residual(plain, stride):
  def definition(x, p, s, train):
    y = plain.norm(x, p["bn"], s["bn"], train)
    y = plain.conv(y, p["reduce"]["kernel"])
    y = plain.relu(plain.norm(y, p["reduce_bn"], s["reduce_bn"], train))
    y = plain.conv(y, p["conv"]["kernel"], stride)
    y = plain.relu(plain.norm(y, p["conv_bn"], s["conv_bn"], train))
    y = plain.conv(y, p["widen"]["kernel"])
    return plain.norm(y, p["widen_bn"], s["widen_bn"], train)

  return definition


def shortcut(plain, x, stride, features):
  y = plain.average(x, stride)
  return np.pad(y, ((0, 0),) * 3 + ((0, features - x.shape[-1]),))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("stride,size", [(1, 5), (2, 6), (2, (5, 8))])
def test_the_block_adds_a_bottleneck_to_its_shortcut(
  plain, stride, size, train
):
  op = PyramidBlock()
  edge = Edge("any", (op,), 5, 8, stride, size)

  def definition(x, *variables):
    y = residual(plain, stride)(x, *variables)
    return shortcut(plain, x, stride, 8) + y

  plain.check(op, edge, definition, train)


def test_evaluation_takes_the_mean_of_the_draws(plain):
  op = PyramidBlock(HALF)
  edge = Edge("any", (op,), 5, 8, 1, 5)

  def definition(x, *variables):
    y = residual(plain, 1)(x, *variables)
    return shortcut(plain, x, 1, 8) + 0.5 * y

  plain.check(op, edge, definition, train=False)


def test_training_scales_the_residual_of_each_example(plain):
  op = PyramidBlock(Fraction(0))
  edge = Edge("any", (op,), 5, 8, 1, 5)
  variables, x = plain.variables_of(op, edge), plain.images_of(edge)
  p, s = variables["params"], variables["batch_stats"]
  whole = residual(plain, 1)(x.astype(np.float64), p, s, True)
  got = plain.run(op, edge, variables, x, True, jax.random.key(0))
  got = np.asarray(got) - shortcut(plain, x, 1, 8)
  factors = (got * whole).sum((1, 2, 3)) / (whole * whole).sum((1, 2, 3))
  assert_allclose(got, factors[:, None, None, None] * whole, atol=1e-3)
  assert np.all(np.abs(factors) <= 1.0)
  assert len(set(factors.round(4))) == len(x)


def draws(survival, count=4000, batch=3):
  """Coefficients of forward and backward passes: two of f[count, batch]."""

  def one(key):
    y, pull = jax.vjp(
      lambda y: shake_drop(key, y, survival), jnp.ones((batch, 1, 1, 1))
    )
    return y.ravel(), pull(jnp.ones_like(y))[0].ravel()

  keys = jax.random.split(jax.random.key(0), count)
  return [np.asarray(c) for c in jax.jit(jax.vmap(one))(keys)]


def test_shake_drop_follows_equation_6():
  forward, backward = draws(0.7)
  kept = np.all((forward == 1.0) & (backward == 1.0), axis=1)
  assert abs(kept.mean() - 0.7) < 4 * np.sqrt(0.7 * 0.3 / len(kept))
  assert abs(forward.mean() - 0.7) < 0.03
  a, b = forward[~kept].ravel(), backward[~kept].ravel()
  assert -1.0 <= a.min() < -0.99 and 0.99 < a.max() < 1.0
  assert 0.0 <= b.min() < 0.01 and 0.99 < b.max() < 1.0
  assert abs(a.mean()) < 0.05 and abs(b.mean() - 0.5) < 0.03
  assert abs(np.corrcoef(a, b)[0, 1]) < 0.06
  one, other, _ = forward[~kept].T
  assert abs(np.corrcoef(one, other)[0, 1]) < 0.1


def test_shake_drop_at_the_ends_of_survival():
  forward, backward = draws(1.0)
  assert_array_equal(forward, 1.0)
  assert_array_equal(backward, 1.0)
  forward, _ = draws(0.0)
  assert np.all(forward < 1.0)


def test_the_name_holds_the_survival_exactly():
  op = PyramidBlock(Fraction(179, 180))
  assert op.name == "pyramid_block_shakedrop_179_180"
  assert parse_op(op.name) == op
  assert parse_op(PyramidBlock().name) == PyramidBlock()
  with pytest.raises(ValueError, match=r"survival = 0\.5: expected"):
    PyramidBlock(0.5)
  with pytest.raises(ValueError, match="Fraction from 0 to 1"):
    PyramidBlock(Fraction(3, 2))


def test_the_block_never_narrows():
  with pytest.raises(ValueError, match="expected features_out >= features_in"):
    Edge("any", (PyramidBlock(),), 16, 12, 1, 6)
  with pytest.raises(ValueError, match="multiple of 4, got 18"):
    Edge("any", (PyramidBlock(),), 16, 18, 1, 6)
  with pytest.raises(ValueError, match="a shortcut of its own"):
    Edge("any", (PyramidBlock(),), 16, 16, 1, 6, shortcut=True)
