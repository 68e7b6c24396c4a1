"""Modules of the built-in operations, by definition in NumPy."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from proxyless_jax.nn.layers.linear import Conv, Conv1x1
from proxyless_jax.nn.ops.base import make
from proxyless_jax.nn.ops.shapes import declared_shapes
from proxyless_jax.space import Classifier, ConvBN, Edge, MBConv, Op, Zero

OPTIONS = dict(bn_momentum=0.9, dropout=0.0)


def edge_of(op, stride=2, size=7, features=(3, 4), shortcut=False):
  return Edge("any", (op,), *features, stride, size, shortcut)


def variables_of(op, edge):
  """Uniform random variables, of no particular distribution."""
  rng = np.random.default_rng(0)
  shapes = nn.meta.unbox(declared_shapes(op, edge))
  return jax.tree.map(
    lambda leaf: rng.uniform(0.2, 1.0, leaf.shape).astype(np.float32), shapes
  )


def depthwise(x, kernel, stride):
  k = kernel.shape[0]
  padded = np.pad(x, ((0, 0), (k // 2,) * 2, (k // 2,) * 2, (0, 0)))
  size = -(-x.shape[1] // stride)
  y = np.zeros((len(x), size, size, x.shape[-1]))
  for i, j in np.ndindex(size, size):
    a, b = i * stride, j * stride
    patch = padded[:, a : a + k, b : b + k]
    y[:, i, j] = np.sum(patch * kernel[:, :, 0], (1, 2))
  return y


def norm(x, params, stats, train):
  mean, var = stats["mean"], stats["var"]
  if train:
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
  return (x - mean) / np.sqrt(var + 1e-3) * params["scale"] + params["bias"]


@pytest.mark.parametrize("train", [True, False])
def test_mbconv(train):
  op = MBConv(expand=2, kernel=5)
  edge = edge_of(op)
  variables = variables_of(op, edge)
  p, s = variables["params"], variables["batch_stats"]
  x = np.random.default_rng(1).standard_normal((4, 7, 7, 3)).astype(np.float32)
  y = x @ p["expand"]["kernel"][0, 0]
  y = norm(y, p["expand_bn"], s["expand_bn"], train).clip(0, 6)
  y = depthwise(y, p["depthwise"], 2)
  y = norm(y, p["depthwise_bn"], s["depthwise_bn"], train).clip(0, 6)
  y = y @ p["project"]["kernel"][0, 0]
  y = norm(y, p["project_bn"], s["project_bn"], train)
  got = make(op, edge, name=None, **OPTIONS).apply(
    variables, x, train, mutable=["batch_stats"]
  )[0]
  assert_allclose(got, y, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kernel,stride", [(3, 2), (1, 2), (1, 1)])
def test_conv_bn_is_convolution_norm_relu6(kernel, stride):
  op = ConvBN(kernel)
  edge = edge_of(op, stride)
  variables = variables_of(op, edge)
  x = np.random.default_rng(1).standard_normal((4, 7, 7, 3)).astype(np.float32)
  y = Conv(4, kernel, stride).apply({"params": variables["params"]["conv"]}, x)
  y = norm(
    np.asarray(y),
    variables["params"]["bn"],
    variables["batch_stats"]["bn"],
    False,
  )
  got = make(op, edge, name=None, **OPTIONS).apply(variables, x, False)
  assert_allclose(got, y.clip(0, 6), rtol=1e-4, atol=1e-5)
  if kernel == stride == 1:
    y = Conv1x1(4).apply({"params": variables["params"]["conv"]}, x)
    assert y.shape == (4, 7, 7, 4)


def test_zero_is_zeros_in_the_dtype_of_its_input():
  edge = edge_of(Zero(), 1, 7, (3, 3), True)
  x = jnp.ones((2, 7, 7, 3), jnp.bfloat16)
  y = make(Zero(), edge, name=None, **OPTIONS).apply({}, x, True)
  assert y.dtype == x.dtype
  assert_array_equal(y, jnp.zeros_like(x))


def test_classifier_is_float32_with_dropout_in_training_alone():
  edge = edge_of(Classifier(), 1, 2, (64, 3))
  module = make(Classifier(), edge, name=None, bn_momentum=0.9, dropout=0.5)
  variables = variables_of(Classifier(), edge)
  x = np.random.default_rng(0).uniform(size=(5, 2, 2, 64)).astype(np.float32)
  params = variables["params"]
  want = x.mean((1, 2)) @ params["kernel"] + params["bias"]
  assert_allclose(module.apply(variables, x, False), want, rtol=1e-4)
  rngs = [{"dropout": jax.random.key(i)} for i in (0, 0, 1)]
  one, same, other = (module.apply(variables, x, True, rngs=r) for r in rngs)
  assert_array_equal(one, same)
  assert not np.allclose(one, other)
  assert not np.allclose(one, want)
  half = module.apply(variables, x.astype(jnp.bfloat16), False)
  assert half.dtype == jnp.float32


@dataclasses.dataclass(frozen=True)
class Unknown(Op):
  name = "unknown"

  def parameters(self, edge):
    return 0

  def macs(self, edge):
    return 0


def test_an_operation_without_a_module_is_an_error():
  with pytest.raises(TypeError, match=r"register.* for Unknown"):
    make(Unknown(), edge_of(Unknown()), name=None, **OPTIONS)
