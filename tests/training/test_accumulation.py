"""Gradient accumulation: the sum of parts is the whole."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from proxyless_jax.nn import build, init
from proxyless_jax.training.metrics import Mean, in_parts
from proxyless_jax.training.state import train_state
from proxyless_jax.training.steps import train_step
from tests.spaces import small_space

WEIGHTS = jnp.array([1.0, -2.0, 0.5])


def batch_of(count):
  rng = np.random.default_rng(0)
  return {
    "x": jnp.asarray(rng.standard_normal((count, 3)), jnp.float32),
    "y": jnp.asarray(rng.standard_normal(count), jnp.float32),
  }


def gradients(part, carry, key):
  """Of a linear regression; the carry counts the parts."""

  def loss_of(weights):
    loss = jnp.mean((part["x"] @ weights - part["y"]) ** 2)
    count = jnp.float32(len(part["y"]))
    return loss, (carry + 1, {"loss": Mean(loss * count, count)})

  del key
  return jax.grad(loss_of, has_aux=True)(WEIGHTS)


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
def test_parts_give_the_gradient_and_the_metrics_of_the_whole(parts):
  batch = batch_of(8)
  key = jax.random.key(0)
  want, (_, whole) = gradients(batch, 0, key)
  got, (count, metrics) = in_parts(gradients, parts, batch, 0, key)
  assert_allclose(got, want, rtol=1e-5)
  assert_allclose(metrics["loss"], whole["loss"], rtol=1e-5)
  assert count == parts


def test_parts_are_strided_and_have_keys_of_their_own():
  batch = {"x": jnp.arange(6.0)}

  def first_and_random(part, carry, key):
    seen = {"x": part["x"][0], "random": jax.random.uniform(key)}
    carry = jax.tree.map(lambda c, s: jnp.roll(c, 1).at[0].set(s), carry, seen)
    return {"sum": part["x"].sum()}, (carry, {})

  carry = {"x": jnp.zeros(3), "random": jnp.zeros(3)}
  key = jax.random.key(0)
  grads, (seen, _) = in_parts(first_and_random, 3, batch, carry, key)
  assert_array_equal(seen["x"], [2.0, 1.0, 0.0])
  assert len(set(seen["random"].tolist())) == 3
  assert grads["sum"] == 5.0


def test_a_training_step_in_parts_moves_as_the_mean_of_its_parts():
  """Batch norm sees the parts one after the other."""
  space = small_space(
    image_size=4, channels=1, depths=(1,), candidates=("mbconv1_k3",)
  )
  module = build(space)
  tx = optax.sgd(1.0)
  variables = init(module, jax.random.key(0))
  rng = np.random.default_rng(0)
  batch = {
    "image": jnp.asarray(rng.standard_normal((8, 4, 4, 1)), jnp.float32),
    "label": jnp.asarray(rng.integers(3, size=8), jnp.int32),
    "mask": jnp.ones(8),
  }
  step = functools.partial(
    train_step,
    module=module,
    tx=tx,
    label_smoothing=0.0,
    ema_decay=0.0,
    drop_rate=None,
  )

  def moved(params, batch, stats, parts):
    state = train_state(
      jax.random.key(0), {"params": params, "batch_stats": stats}, tx
    )
    new, metrics = jax.jit(functools.partial(step, grad_accum=parts))(
      state, batch
    )
    change = jax.tree.map(jnp.subtract, new.params, params)
    return change, new.batch_stats, metrics

  params, stats = variables["params"], variables["batch_stats"]
  got, got_stats, metrics = moved(params, batch, stats, 2)
  changes = []
  for i in range(2):
    part = jax.tree.map(lambda leaf, i=i: leaf[i::2], batch)
    change, stats, _ = moved(params, part, stats, 1)
    changes.append(change)
  want = jax.tree.map(lambda a, b: (a + b) / 2, *changes)
  close = functools.partial(assert_allclose, rtol=1e-4, atol=1e-6)
  jax.tree.map(close, got, want)
  jax.tree.map(close, got_stats, stats)
  assert metrics["top1"].count == 8
