"""Layers by definition in NumPy, and a check of modules made of them."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from proxyless_jax.nn.ops.base import make
from proxyless_jax.nn.ops.shapes import declared_shapes


def strided(x, stride):
  """Height and width of what a stride leaves of f[b, h, w, c]."""
  return [-(-side // stride) for side in x.shape[1:3]]


def conv(x, kernel, stride=1):
  """Padded by kernel // 2, in float64."""
  k = kernel.shape[0]
  kernel = np.asarray(kernel, np.float64)
  padded = np.pad(x, ((0, 0), (k // 2,) * 2, (k // 2,) * 2, (0, 0)))
  y = np.zeros((len(x), *strided(x, stride), kernel.shape[-1]))
  for i, j in np.ndindex(y.shape[1:3]):
    a, b = i * stride, j * stride
    patch = padded[:, a : a + k, b : b + k]
    y[:, i, j] = np.tensordot(patch, kernel, ([1, 2, 3], [0, 1, 2]))
  return y


def norm(x, params, stats, train, epsilon=1e-5):
  mean, var = stats["mean"], stats["var"]
  if train:
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
  return (x - mean) / np.sqrt(var + epsilon) * params["scale"] + params["bias"]


def relu(x):
  return np.maximum(x, 0.0)


def average(x, stride):
  """Over cells of stride x stride, of what the image has of them."""
  y = np.zeros((len(x), *strided(x, stride), x.shape[-1]))
  for i, j in np.ndindex(y.shape[1:3]):
    a, b = i * stride, j * stride
    y[:, i, j] = x[:, a : a + stride, b : b + stride].mean((1, 2))
  return y


def variables_of(op, edge):
  """Random variables, of no particular distribution."""
  rng = np.random.default_rng(0)
  shapes = nn.meta.unbox(declared_shapes(op, edge))
  draws = jax.tree.map(
    lambda leaf: rng.uniform(-1.0, 1.0, leaf.shape).astype(np.float32), shapes
  )
  return jax.tree.map_with_path(
    lambda path, leaf: np.abs(leaf) + 0.2 if path[-1].key == "var" else leaf,
    draws,
  )


def images_of(edge, batch=4):
  shape = batch, *edge.shape_in
  return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def run(op, edge, variables, x, train, key=None):
  """The output of the operation's module."""
  module = make(op, edge, name=None, bn_momentum=0.9, dropout=0.0)
  rngs = {} if key is None else {"dropout": key}
  y, _ = module.apply(variables, x, train, mutable=["batch_stats"], rngs=rngs)
  return y


def check(op, edge, definition, train, key=None):
  """Module against `definition(x, params, stats, train)`."""
  variables, x = variables_of(op, edge), images_of(edge)
  want = definition(
    x.astype(np.float64), variables["params"], variables["batch_stats"], train
  )
  got = run(op, edge, variables, x, train, key)
  assert_allclose(got, want, rtol=1e-3, atol=1e-4)


def check_gradients(edge, variables, x):
  """Activations of bfloat16 stay so, and all gradients are finite numbers."""
  module = make(edge.op, edge, name=None, bn_momentum=0.9, dropout=0.0)

  @jax.jit
  def loss(params, x):
    y, _ = module.apply(
      {**variables, "params": params}, x, True, mutable=["batch_stats"]
    )
    assert y.dtype == x.dtype
    return jnp.sum(y.astype(jnp.float32) ** 2)

  x = jnp.asarray(x, jnp.bfloat16)
  for leaf in jax.tree.leaves(jax.grad(loss, (0, 1))(variables["params"], x)):
    assert np.isfinite(np.asarray(leaf, np.float32)).all()
    assert np.any(leaf)


@pytest.fixture(scope="session")
def plain():
  """The functions of this file, by name."""
  functions = (conv, norm, relu, average, strided)
  functions += (variables_of, images_of, run, check, check_gradients)
  return types.SimpleNamespace(**{f.__name__: f for f in functions})
