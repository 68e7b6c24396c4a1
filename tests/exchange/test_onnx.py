import dataclasses
from fractions import Fraction
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import proxyless_jax as pj
from proxyless_jax.exchange.normalisation import Normalisation
from proxyless_jax.exchange.onnx import to_onnx
from proxyless_jax.exchange.onnx_networks import wire
from proxyless_jax.exchange.onnx_ops import convert
from proxyless_jax.space import (
  AvgPool,
  BasicBlock,
  BlockMaxPool,
  Cell,
  CellConv,
  CellNetwork,
  Chain,
  Classifier,
  ConvBN,
  DenseLayer,
  DenseTransition,
  Edge,
  FactorizedReduce,
  Identity,
  MaxPool,
  MBConv,
  Norm,
  Op,
  Path,
  PlainConv,
  PyramidBlock,
  Relu,
  SepConv,
  ShakeBlock,
  ShuffleUnit,
  TreeCellBlock,
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
  model = to_onnx(network, variables, batch=None).SerializeToString()
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
  @dataclasses.dataclass(frozen=True)
  class Unknown(Op):
    name = "unknown"

    def parameters(self, edge):
      return 0

    def macs(self, edge):
      return 0

  network = Chain((), (Edge("block", (Unknown(),), 2, 2, 1, 4),), ())
  with pytest.raises(ValueError, match="'unknown' has no ONNX graph: regist"):
    to_onnx(network, {"params": {}, "batch_stats": {}})


def test_families_without_a_graph():
  with pytest.raises(ValueError, match="family 'own' have no ONNX graph: exp"):
    wire(mock.Mock(family="own"), None, "images", None)


def block(op, features_in, features_out, stride=1, size=(7, 6)):
  """A network of a stem and a block."""
  chain = ChainBuilder(3, size)
  edges = (
    chain.add("stem", (PlainConv(3),), features_in),
    chain.add("block", (op,), features_out, stride),
  )
  return Chain((), edges, ())


@pytest.mark.parametrize(
  "op, features_in, features_out, stride",
  [
    (BasicBlock(), 4, 4, 1),
    (BasicBlock(), 4, 6, 2),
    (ShuffleUnit(3), 6, 6, 1),
    (ShuffleUnit(5), 6, 8, 2),
    (DenseLayer(2), 4, 7, 1),
    (DenseTransition(), 4, 3, 2),
    (PyramidBlock(Fraction(2, 3)), 4, 8, 2),
    (ShakeBlock(), 4, 4, 1),
    (ShakeBlock(), 4, 5, 1),
    (ShakeBlock(), 4, 5, 2),
    (TreeCellBlock(), 8, 16, 2),
    (CellConv(1), 4, 6, 2),
    (CellConv(3, relu=False), 4, 6, 1),
    (SepConv(3, dilation=2), 4, 6, 2),
    (FactorizedReduce(), 4, 6, 2),
    (BlockMaxPool(), 4, 4, 2),
  ],
)
def test_blocks_of_published_networks(op, features_in, features_out, stride):
  """At an odd height and an even width."""
  compare(block(op, features_in, features_out, stride))


def test_a_network_of_cells():
  def edges(name, op, stride=1, size=6, width=4):
    return (Edge(name, (op,), width, 4, stride, size),)

  normal = Cell(
    inputs=(Path(0, edges("a", CellConv(1))), Path(1, ())),
    nodes=(
      (Path(0, edges("b", SepConv(3))), Path(1, ())),
      (Path(2, ()), Path(1, edges("c", MaxPool(3)))),
    ),
    outputs=(Path(2, ()), Path(3, ())),
  )
  reduction = Cell(
    inputs=(
      Path(0, edges("d", FactorizedReduce(), 2)),
      Path(1, edges("e", CellConv(1), 2, width=8)),
    ),
    nodes=((Path(0, ()), Path(1, edges("f", AvgPool(3), size=3))),),
    outputs=(Path(2, ()),),
  )
  stem = (Edge("stem", (PlainConv(3),), 3, 4, 1, 6),)
  head = (Edge("classifier", (Classifier(),), 4, 5, 1, 3),)
  compare(CellNetwork(stem, (normal, reduction), head))


def test_pixels_are_normalised():
  onnxruntime = pytest.importorskip("onnxruntime")
  network = Chain((), (Edge("relu", (Relu(),), 3, 3, 1, 4),), ())
  normalisation = Normalisation((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
  model = to_onnx(network, {}, batch=None, normalisation=normalisation)
  session = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"]
  )
  pixels = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3) * 2
  (found,) = session.run(None, {"images": pixels})
  expected = (pixels / 255 - normalisation.mean) / normalisation.std
  np.testing.assert_allclose(found, np.maximum(expected, 0), atol=1e-6)
  images = normalisation.normalise(pixels)
  np.testing.assert_allclose(images, expected, atol=1e-6)
  np.testing.assert_array_equal(normalisation.pixels(images), pixels)


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


@pytest.mark.parametrize("batch", [0, -1, "1", 1.5, True])
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
