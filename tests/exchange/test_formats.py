"""Files of all kinds of networks, run by their own runtimes."""

import jax
import numpy as np
import pytest

import proxyless_jax as pj
from proxyless_jax.exchange.formats import FORMATS
from proxyless_jax.exchange.normalisation import Normalisation
from proxyless_jax.exchange.runtimes import logits_of
from proxyless_jax.space import (
  Cell,
  CellConv,
  CellNetwork,
  Chain,
  Classifier,
  FactorizedReduce,
  Path,
  PlainConv,
  SepConv,
  ShuffleUnit,
)
from proxyless_jax.space.networks.chain import ChainBuilder

PACKAGES = {".stablehlo": "jax", ".tflite": "litert_converter"}


def a_chain():
  chain = ChainBuilder(3, (9, 8))
  edges = (
    chain.add("stem", (PlainConv(3),), 4),
    chain.add("one", (ShuffleUnit(3),), 4),
    chain.add("two", (ShuffleUnit(3),), 6, 2),
    chain.add_classifier(5),
  )
  return Chain((), edges, ())


def a_tree():
  fields = dict(stem_width=4, alpha=4, depths=(1,), expand=2)
  space = pj.tree_space(image_size=6, classes=5, **fields)
  return space.choose([i % len(edge.ops) for i, edge in enumerate(space.edges)])


def cells():
  chain = ChainBuilder(3, (9, 8))
  stem = chain.add("stem", (PlainConv(3),), 4)
  reduced = [
    ChainBuilder(4, (9, 8)).add(name, (FactorizedReduce(),), 4, 2)
    for name in ("first", "second")
  ]
  inner = ChainBuilder(4, reduced[0].size_out)
  nodes = (
    Path(0, (inner.add("conv", (CellConv(3),), 4),)),
    Path(1, (inner.add("sep", (SepConv(3, dilation=2),), 4),)),
  )
  inputs = tuple(Path(i, (edge,)) for i, edge in enumerate(reduced))
  cell = Cell(inputs, (nodes,), (Path(1, ()), Path(2, ())))
  head = ChainBuilder(8, reduced[0].size_out).add_classifier(5)
  return CellNetwork((stem,), (cell,), (head,))


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("ending", PACKAGES)
@pytest.mark.parametrize("make", [a_chain, a_tree, cells])
def test_all_families(make, ending):
  pytest.importorskip(PACKAGES[ending])
  network = make()
  assert isinstance(network.layers[-1].op, Classifier)
  variables = pj.init(pj.build(network), jax.random.key(0))
  normalisation = Normalisation((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
  shape = (3, *network.image_shape)
  pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  images = normalisation.normalise(pixels)
  own = logits_of(network, variables)(images)
  kind = FORMATS[ending]
  for given, seen in ((None, images), (normalisation, pixels)):
    data = kind.write(network, variables, given, {})
    found = kind.read(data, network)(seen)
    assert found.shape == own.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, own, atol=1e-4 * np.abs(own).max())
