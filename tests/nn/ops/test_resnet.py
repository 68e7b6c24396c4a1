"""The basic block of ResNets, by its formula in float64."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from proxyless_jax.nn import make
from proxyless_jax.nn.ops.shapes import declared_shapes
from proxyless_jax.nn.supernet import bank
from proxyless_jax.space import BasicBlock, Edge, parse_op

OP = BasicBlock()
EDGES = [
  Edge("same", (OP,), 4, 4, 1, 5),
  Edge("wider", (OP,), 4, 6, 1, 5),
  Edge("smaller", (OP,), 4, 4, 2, 6),
  Edge("wide", (OP,), 4, 6, 2, (5, 8)),
  Edge("both", (OP,), 3, 6, 2, 7),
]


def module_of(edge):
  return make(edge.op, edge, name=None, bn_momentum=0.9, dropout=0.0)


def inputs(edge):
  """Random variables of either sign, but scales and variances, and images."""
  rng = np.random.default_rng(0)
  shapes = nn.meta.unbox(declared_shapes(edge.op, bank.nameless(edge)))

  def draw(path, leaf):
    low = 0.5 if path[-1].key in ("scale", "var") else -1.0
    return rng.uniform(low, 1.0, leaf.shape).astype(np.float32)

  shape = (3, *edge.shape_in)
  x = rng.standard_normal(shape).astype(np.float32)
  return jax.tree_util.tree_map_with_path(draw, shapes), x


def plain_block(edge, variables, x, train):
  params, stats = variables["params"], variables["batch_stats"]

  def norm(y, name):
    mean, var = stats[name]["mean"], stats[name]["var"]
    if train:
      mean, var = y.mean((0, 1, 2)), y.var((0, 1, 2))
    scale, bias = params[name]["scale"], params[name]["bias"]
    return (y - mean) / np.sqrt(var + 1e-5) * scale + bias

  def conv(y, name, stride):
    kernel = params[name]["kernel"].astype(np.float64)
    k = kernel.shape[0]
    padded = np.pad(y, ((0, 0), (k // 2,) * 2, (k // 2,) * 2, (0, 0)))
    sides = [-(-side // stride) for side in y.shape[1:3]]
    out = np.zeros((len(y), *sides, kernel.shape[-1]))
    for i, j in np.ndindex(*sides):
      a, b = i * stride, j * stride
      patch = padded[:, a : a + k, b : b + k]
      out[:, i, j] = np.einsum("bhwc,hwcd->bd", patch, kernel)
    return out

  y = np.maximum(norm(conv(x, "conv1", edge.stride), "bn1"), 0.0)
  y = norm(conv(y, "conv2", 1), "bn2")
  if edge.stride > 1 or edge.features_in != edge.features_out:
    x = norm(conv(x, "shortcut", edge.stride), "shortcut_bn")
  return np.maximum(x + y, 0.0)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: edge.name)
def test_block_is_the_plain_one(edge, train):
  variables, x = inputs(edge)
  got, _ = module_of(edge).apply(variables, x, train, mutable=["batch_stats"])
  want = plain_block(edge, variables, x.astype(np.float64), train)
  assert got.shape == (3, *edge.shape_out)
  assert_allclose(got, want, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: edge.name)
def test_counts_are_those_of_the_module(edge):
  params = inputs(edge)[0]["params"]
  assert OP.parameters(edge) == sum(
    leaf.size for leaf in jax.tree.leaves(params)
  )


def test_gradients_are_finite_and_activations_may_be_bfloat16(plain):
  plain.check_gradients(EDGES[-1], *inputs(EDGES[-1]))


def test_the_shortcut_is_the_operations_own():
  with pytest.raises(ValueError, match="has a shortcut of its own"):
    Edge("edge", (OP,), 4, 4, 1, 5, shortcut=True)
  assert parse_op("basic_block") == OP
