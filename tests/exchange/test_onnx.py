import dataclasses
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import proxyless_jax as pj
from proxyless_jax.exchange.onnx import to_onnx
from proxyless_jax.exchange.onnx_ops import convert
from proxyless_jax.space import (
  AvgPool,
  BasicBlock,
  Chain,
  ConvBN,
  Edge,
  Identity,
  MaxPool,
  MBConv,
  Norm,
  PlainConv,
  Relu,
)
from proxyless_jax.space.networks.chain import ChainBuilder

pytest.importorskip("onnx")


def variables_of(network):
  """With statistics and scales as after training, none of them 0 or 1."""
  rng = np.random.default_rng(0)
  first = pj.init(pj.build(network), jax.random.key(0))
  return jax.tree.map(
    lambda a: jnp.asarray(
      a * rng.uniform(0.8, 1.2, a.shape) + rng.uniform(0, 0.02, a.shape),
      a.dtype,
    ),
    first,
  )


def compare(network, batch=2):
  """Both outputs, and the model's."""
  onnxruntime = pytest.importorskip("onnxruntime")
  variables = variables_of(network)
  shape = (batch, *network.image_shape)
  images = np.random.default_rng(1).standard_normal(shape, np.float32)
  apply = jax.jit(lambda v, x: pj.build(network).apply(v, x, False))
  own = np.asarray(apply(variables, images))
  model = to_onnx(network, variables, batch=batch).SerializeToString()
  session = onnxruntime.InferenceSession(
    model, providers=["CPUExecutionProvider"]
  )
  (other,) = session.run(None, {"images": images})
  assert other.shape == own.shape and other.dtype == np.float32
  scale = np.abs(own).max()
  np.testing.assert_allclose(other / scale, own / scale, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [20, (20, 11)])
def test_a_mobile_network(size):
  names = ("mbconv3_k3", "mbconv6_k5_se4", "zero", "mbconv3_k7_relu")
  space = pj.mobile_space(
    image_size=size,
    classes=5,
    widths=(16, 24),
    depths=(4, 1),
    strides=(2, 2),
    candidates=names,
    head_width=32,
  )
  compare(space.choose([*names, names[1]]))


@pytest.mark.parametrize("stride, size", [(1, 8), (2, 8), (2, 7), (2, (7, 16))])
def test_common_operations(stride, size):
  chain = ChainBuilder(3, size)
  edges = (
    chain.add("conv", (PlainConv(3),), 6, stride),
    chain.add("norm", (Norm(True),), 6),
    chain.add("identity", (Identity(),), 6, shortcut=True),
    chain.add("max", (MaxPool(3),), 6, stride),
    chain.add("linear", (Norm(False),), 6),
    chain.add("relu", (Relu(),), 6),
    chain.add("average", (AvgPool(3),), 6, stride),
  )
  compare(Chain((), edges, ()))


@pytest.mark.parametrize(
  "size, fields",
  [
    ((7, 4), {}),
    (6, {"shuffle": False}),
    (6, {"halves": 3, "branches": 1, "levels": 1}),
  ],
)
def test_a_tree_network(size, fields):
  """Blocks with and without a stride, of widths that grow by odd numbers."""
  space = pj.tree_space(
    image_size=size,
    classes=5,
    stem_width=4,
    alpha=6,
    depths=(1, 1),
    expand=2,
    **fields,
  )
  candidates = len(space.edges[0].ops)
  compare(space.choose([i % candidates for i in range(len(space.edges))]))


def test_another_epsilon_is_folded():
  edges = (
    Edge("conv", (ConvBN(3, epsilon=0.1),), 3, 6, 1, 8),
    Edge("block", (MBConv(3, 3, epsilon=0.2),), 6, 6, 1, 8),
    Edge("less", (MBConv(Fraction(3, 2), 3),), 6, 6, 1, 8, True),
    Edge("narrow", (MBConv(Fraction(1, 2), 3),), 6, 6, 1, 8),
    Edge("norm", (Norm(True, epsilon=0.3),), 6, 6, 1, 8),
  )
  compare(Chain((), edges, ()))


def test_batch_norm_is_folded():
  space = pj.mobile_space(image_size=8, widths=(8,), depths=(2,), strides=(2,))
  network = space.choose(["mbconv3_k3", "mbconv6_k3"])
  model = to_onnx(network, variables_of(network))
  kinds = [node.op_type for node in model.graph.node]
  assert kinds.count("Conv") == 1 + 2 + 2 * 3 + 1
  assert "BatchNormalization" not in kinds and "Mul" not in kinds


def test_operations_without_a_graph():
  block = Edge("block", (BasicBlock(),), 2, 2, 1, 4)
  network = Chain((), (block,), ())
  with pytest.raises(ValueError, match="'basic_block' has no ONNX graph: reg"):
    to_onnx(network, {"params": {}, "batch_stats": {}})
  network = pj.zoo("darts", image_size=32, classes=10)
  with pytest.raises(
    ValueError, match="family 'cells' have no ONNX graph: expected"
  ):
    to_onnx(network, {})


def test_an_operation_of_your_own():
  @dataclasses.dataclass(frozen=True)
  class Own(Identity):
    name = "own"

  @convert.register
  def _(op: Own, edge, graph, x, weights):
    return graph.add("Neg", x)

  network = Chain((), (Edge("own", (Own(),), 2, 2, 1, 4),), ())
  model = to_onnx(network, {"params": {}, "batch_stats": {}})
  assert "Neg" in [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("batch", [0, -1, "1", 1.5, True, None])
def test_a_batch_is_a_positive_integer(batch):
  network = pj.zoo("mobilenet_v2")
  with pytest.raises(ValueError, match=r"batch = .*: expected a positive int"):
    to_onnx(network, {}, batch=batch)


def test_wrong_arguments_are_named():
  network = pj.zoo("mobilenet_v2")
  with pytest.raises(ValueError, match="network is dict: expected a network"):
    to_onnx({}, network)
  of_space = {"params": {"stem": np.zeros((1, 1, 3))}}
  for variables in ({}, None, {"params": None}, of_space):
    with pytest.raises(ValueError, match="no parameters of 'conv_k3' on edge"):
      to_onnx(network, variables)
