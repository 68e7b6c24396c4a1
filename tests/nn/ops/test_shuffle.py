"""ShuffleNetV2's unit, against a plain one in NumPy."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from proxyless_jax.nn import make
from proxyless_jax.nn.ops.shapes import declared_shapes
from proxyless_jax.nn.supernet import bank
from proxyless_jax.space import Edge, ShuffleUnit, parse_op

OP = ShuffleUnit(3)
# Without and with a stride; there also an odd size, and widths of all kinds.
EDGES = [
  Edge("one", (OP,), 8, 8, 1, 5),
  Edge("two", (OP,), 6, 10, 2, 7),
  Edge("wide", (OP,), 6, 10, 2, (5, 8)),
  Edge("five", (ShuffleUnit(5),), 3, 4, 2, 6),
]


def module_of(edge):
  return make(edge.op, edge, name=None, bn_momentum=0.9, dropout=0.0)


def inputs(edge, dtype=np.float32):
  """Uniform random variables and images."""
  rng = np.random.default_rng(0)
  shapes = nn.meta.unbox(declared_shapes(edge.op, bank.nameless(edge)))
  variables = jax.tree.map(
    lambda leaf: rng.uniform(0.2, 1.0, leaf.shape).astype(dtype), shapes
  )
  shape = (4, *edge.shape_in)
  return variables, rng.standard_normal(shape).astype(dtype)


def plain_unit(edge, variables, x, train):
  """Float64, one position and one channel at a time where it can be."""
  params, stats = variables["params"], variables["batch_stats"]

  def norm(y, name):
    mean, var = stats[name]["mean"], stats[name]["var"]
    if train:
      mean, var = y.mean((0, 1, 2)), y.var((0, 1, 2))
    scale, bias = params[name]["scale"], params[name]["bias"]
    return (y - mean) / np.sqrt(var + 1e-5) * scale + bias

  def pointwise(y, name):
    y = np.einsum("bhwc,cd->bhwd", y, params[name]["kernel"][0, 0])
    return np.maximum(norm(y, f"{name}_bn"), 0.0)

  def depthwise(y, name):
    kernel, k = params[name], edge.op.kernel
    padded = np.pad(y, ((0, 0), (k // 2,) * 2, (k // 2,) * 2, (0, 0)))
    out = np.zeros((len(y), *edge.shape_out[:2], y.shape[-1]))
    for i, j in np.ndindex(out.shape[1:3]):
      a, b = i * edge.stride, j * edge.stride
      patch = padded[:, a : a + k, b : b + k]
      out[:, i, j] = np.sum(patch * kernel[:, :, 0], (1, 2))
    return norm(out, f"{name}_bn")

  half = edge.features_in // 2
  if edge.stride == 1:
    first, second = x[..., :half], x[..., half:]
  else:
    first, second = depthwise(x, "first_depthwise"), x
    first = pointwise(first, "first_project")
  second = pointwise(second, "second_expand")
  second = depthwise(second, "second_depthwise")
  second = pointwise(second, "second_project")
  y = np.zeros((*second.shape[:-1], edge.features_out))
  y[..., 0::2], y[..., 1::2] = first, second
  return y


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: edge.name)
def test_unit_is_the_plain_one(edge, train):
  variables, x = inputs(edge)
  got, new = module_of(edge).apply(variables, x, train, mutable=["batch_stats"])
  want = plain_unit(edge, variables, x.astype(np.float64), train)
  assert_allclose(got, want, rtol=2e-4, atol=2e-4)
  moved = jax.tree.map(
    np.array_equal, new["batch_stats"], dict(variables["batch_stats"])
  )
  assert set(jax.tree.leaves(moved)) == {not train}


@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: edge.name)
def test_counts_are_those_of_the_module(edge):
  params = inputs(edge)[0]["params"]
  assert edge.op.parameters(edge) == sum(
    leaf.size for leaf in jax.tree.leaves(params)
  )


def test_gradients_are_finite_and_activations_may_be_bfloat16(plain):
  plain.check_gradients(EDGES[-1], *inputs(EDGES[-1]))


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    (dict(features_out=5), "an even features_out, got 5"),
    (dict(stride=1), "keeps the width: expected features_out = features_in"),
    (
      dict(stride=1, features_out=6, shortcut=True),
      "has a shortcut of its own",
    ),
  ],
)
def test_edges_that_do_not_fit_are_refused(fields, message):
  position = dict(features_in=6, features_out=8, stride=2, size=8)
  with pytest.raises(ValueError, match=message):
    Edge("edge", (OP,), **{**position, **fields})


def test_names():
  assert parse_op("shuffle_k5") == ShuffleUnit(5)
  assert parse_op(OP.name) == OP
  with pytest.raises(ValueError, match="kernel = 4"):
    parse_op("shuffle_k4")
