"""The operations of cells, by definition in NumPy."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from proxyless_jax.space import (
  BlockMaxPool,
  CellConv,
  Edge,
  FactorizedReduce,
  SepConv,
  parse_op,
)


def depthwise(x, kernel, stride, dilation):
  """Padded by dilation * (k // 2)."""
  k, d = len(kernel), dilation
  pad = d * (k // 2)
  padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  sides = [-(-side // stride) for side in x.shape[1:3]]
  y = np.zeros((len(x), *sides, x.shape[-1]))
  for i, j, a, b in np.ndindex(*sides, k, k):
    tap = padded[:, i * stride + a * d, j * stride + b * d]
    y[:, i, j] += tap * kernel[a, b, 0]
  return y


CONVS = [
  (CellConv(1), 1, 5),
  (CellConv(1), 2, 5),
  (CellConv(3, relu=False), 2, 6),
  (CellConv(3), 2, (5, 8)),
  (CellConv(3, epsilon=1e-5), 1, 5),
]
SEPS = [
  (SepConv(3), 1, 5),
  (SepConv(5), 2, 6),
  (SepConv(3, dilation=2, epsilon=1e-5), 1, 5),
  (SepConv(3, dilation=2), 2, 7),
  (SepConv(5, dilation=2), 1, 6),
  (SepConv(3, dilation=2), 1, (5, 8)),
]
REDUCES = [
  (FactorizedReduce(), 2, 6),
  (FactorizedReduce(), 2, (5, 8)),
  (FactorizedReduce(relu=False, epsilon=1e-5), 2, 5),
]
ALL = [*CONVS, *SEPS, *REDUCES]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("op,stride,size", CONVS)
def test_cell_conv(plain, op, stride, size, train):
  def definition(x, p, s, train):
    x = plain.relu(x) if op.relu else x
    y = plain.conv(x, p["conv"]["kernel"], stride)
    return plain.norm(y, p["bn"], s["bn"], train, op.epsilon)

  plain.check(op, Edge("any", (op,), 3, 4, stride, size), definition, train)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("op,stride,size", SEPS)
def test_sep_conv(plain, op, stride, size, train):
  def definition(x, p, s, train):
    y = depthwise(plain.relu(x), p["depthwise"], stride, op.dilation)
    y = plain.conv(y, p["pointwise"]["kernel"])
    return plain.norm(y, p["bn"], s["bn"], train, op.epsilon)

  plain.check(op, Edge("any", (op,), 3, 4, stride, size), definition, train)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("op,stride,size", REDUCES)
def test_factorized_reduce_takes_every_pixel_of_a_diagonal(
  plain, op, stride, size, train
):
  def definition(x, p, s, train):
    x = plain.relu(x) if op.relu else x
    shifted = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1:, 1:]
    y = [
      plain.conv(x, p["even"]["kernel"], 2),
      plain.conv(shifted, p["odd"]["kernel"], 2),
    ]
    y = np.concatenate(y, axis=-1)
    return plain.norm(y, p["bn"], s["bn"], train, op.epsilon)

  plain.check(op, Edge("any", (op,), 3, 4, stride, size), definition, train)


@pytest.mark.parametrize("size", [6, 5, (5, 8)])
def test_block_max_pool_takes_blocks_of_2_and_what_the_rim_has(plain, size):
  op = BlockMaxPool()

  def definition(x, p, s, train):
    y = np.zeros((len(x), *plain.strided(x, 2), 3))
    for i, j in np.ndindex(y.shape[1:3]):
      block = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
      y[:, i, j] = block.max((1, 2))
    return y

  plain.check(op, Edge("any", (op,), 3, 3, 2, size), definition, True)


@pytest.mark.parametrize("op,stride,size", ALL)
def test_counts_are_those_of_the_module(plain, op, stride, size):
  edge = Edge("any", (op,), 3, 4, stride, size)
  leaves = jax.tree.leaves(plain.variables_of(op, edge)["params"])
  assert op.parameters(edge) == sum(leaf.size for leaf in leaves)
  # Weights of convolutions, each used once for every pixel of the output.
  weights = sum(leaf.size for leaf in leaves if leaf.ndim == 4)
  assert op.macs(edge) == weights * edge.pixels_out


@pytest.mark.parametrize("op,stride,size", ALL)
def test_epsilon_is_what_the_operation_says(plain, op, stride, size):
  edge = Edge("any", (op,), 3, 4, stride, size)
  variables, x = plain.variables_of(op, edge), plain.images_of(edge)
  stats = variables["batch_stats"]["bn"]
  stats["mean"], bias = stats["mean"] * 0.0, variables["params"]["bn"]["bias"]

  def run(var):
    stats["var"] = np.full_like(stats["mean"], var)
    return np.asarray(plain.run(op, edge, variables, x, False)) - bias

  scale = np.sqrt((1.0 + op.epsilon) / op.epsilon)
  assert_allclose(run(0.0), run(1.0) * scale, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("op", [op for op, *_ in ALL] + [BlockMaxPool()])
def test_names_hold_everything(op):
  assert parse_op(op.name) == op


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match="'relu_reduce_bn' halves the size"):
    Edge("e", (FactorizedReduce(),), 4, 4, 1, 8)
  with pytest.raises(ValueError, match="an even features_out, got 5"):
    Edge("e", (FactorizedReduce(),), 4, 5, 2, 8)
  with pytest.raises(ValueError, match="'max_pool_2x2' halves the size"):
    Edge("e", (BlockMaxPool(),), 4, 4, 1, 8)
  with pytest.raises(ValueError, match="a multiple of the dilation 3"):
    Edge("e", (SepConv(3, dilation=3),), 4, 4, 2, 8)
  with pytest.raises(ValueError, match="epsilon = 0: expected a float"):
    CellConv(1, epsilon=0)
  with pytest.raises(ValueError, match="dilation = 0: expected a positive"):
    SepConv(3, dilation=0)
