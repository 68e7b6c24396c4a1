"""Spaces of a user's own, and a family of a user's own, in every room.

Cost tables, pictures, JSON, ONNX and PyTorch's layouts take any chain and any
tree; of another family they need what one clear error names.
"""

from __future__ import annotations

import dataclasses
import re

import jax
import numpy as np
import pytest

import proxyless_jax as pj
from proxyless_jax.exchange.layouts import layout
from proxyless_jax.exchange.onnx_networks import wire
from proxyless_jax.hardware import beside
from proxyless_jax.hardware.measure import Plan, build_table
from proxyless_jax.hardware.runtime import from_function
from proxyless_jax.report import draw_architecture
from proxyless_jax.report.figure import drawing
from proxyless_jax.space import Block, Classifier, ConvBN, MBConv, Tree, Zero
from proxyless_jax.space.networks.chain import ChainBuilder
from proxyless_jax.space.ops.common import Norm, PlainConv
from proxyless_jax.space.ops.tree import NormConv, NormSepConv

KINDS = ("macs", "parameters", "weight_bytes", "memory", "memory:bfloat16")


def chain_space() -> pj.Chain:
  """As NAS-Bench-Macro: a 1x1 convolution is a candidate at stride 2."""
  chain = ChainBuilder(3, 8)
  blocks = (
    MBConv(3, 3, activation="relu", epsilon=1e-5),
    MBConv(6, 5, activation="relu", epsilon=1e-5),
  )
  stem = chain.add("stem", (ConvBN(3, "relu", 1e-5),), 4)
  edges = (
    chain.add("down", (ConvBN(1, "linear", 1e-5), *blocks), 6, stride=2),
    chain.add("keep", (Zero(), *blocks), 6, shortcut=True),
  )
  head = chain.add("head", (ConvBN(1, "relu", 1e-5),), 8)
  return pj.Chain((stem,), edges, (head, chain.add_classifier(5)))


def tree_space() -> Tree:
  """One block of three parts, one level, and other candidates than usual."""
  edge = pj.Edge
  ops = (NormSepConv(3), NormConv(1))
  block = Block(
    edge("in", (NormConv(1, relu=False),), 4, 2, 1, 8),
    edge("conv", (NormConv(3, groups=1),), 2, 6, 2, 8),
    tuple(edge(f"edge{i}", ops, 2, 2, 1, 4) for i in range(6)),
    tuple(edge(f"norm{i}", (Norm(False),), 2, 2, 1, 4) for i in range(3)),
    edge("out", (NormConv(1),), 2, 8, 1, 4),
    edge("final", (Norm(False),), 8, 8, 1, 4),
    branches=2,
  )
  stem = edge("stem", (PlainConv(3),), 3, 4, 1, 8)
  return Tree((stem,), (block,), (edge("end", (Classifier(),), 8, 5, 1, 4),))


SPACES = (chain_space(), tree_space())


@pytest.mark.parametrize("space", SPACES, ids=["chain", "tree"])
@pytest.mark.parametrize("kind", KINDS)
def test_tables_cover_any_chain_and_any_tree(space, kind):
  table = pj.cost_table(kind, space)
  costs = []
  for i in range(2):
    network = space.choose([i] * len(space.edges))
    costs.append(table.exact(network))
    own = {"macs": pj.macs, "parameters": pj.parameters}
    if kind in own:
      assert costs[-1] == own[kind](network)
  assert table.min_cost <= min(costs) < max(costs) <= table.max_cost
  assert table.unit == {"macs": "MACs", "parameters": kind}.get(kind, "bytes")


@pytest.mark.parametrize("space", SPACES, ids=["chain", "tree"])
def test_any_chain_and_any_tree_can_be_measured(space):
  def cost(network):
    return 1e-3 * len(network.layers) + 1e-6 * pj.macs(network)

  runtime = from_function("a device", cost)
  table, check = build_table(space, runtime, Plan(calibration=6, held_out=2))
  network = space.choose([1] * len(space.edges))
  assert table.exact(network) == pytest.approx(cost(network))
  assert check.summary()["error_max"] < 1e-6


def test_the_phone_table_names_what_it_lacks():
  with pytest.raises(ValueError, match=r"lacks .*down/conv_k1_linear"):
    pj.cost_table("pixel1", chain_space())


@pytest.mark.parametrize("space", SPACES, ids=["chain", "tree"])
def test_json_by_names_of_candidates(space, tmp_path):
  names = [edge.ops[-1].name for edge in space.edges]
  network = space.choose(names)
  assert [edge.op.name for edge in network.edges] == names
  for one in (space, network):
    one.to_json(tmp_path / "network.json")
    assert pj.load_network(tmp_path / "network.json") == one


@pytest.mark.parametrize("space", SPACES, ids=["chain", "tree"])
def test_pictures_of_any_chain_and_any_tree(space, tmp_path):
  paths = tmp_path / "a.svg", tmp_path / "a.png"
  draw_architecture(space.choose([0] * len(space.edges)), *paths)
  assert "5" in paths[0].read_text() and paths[1].stat().st_size


@pytest.mark.parametrize("space", SPACES, ids=["chain", "tree"])
def test_onnx_of_any_chain_and_any_tree(space):
  onnxruntime = pytest.importorskip("onnxruntime")
  from proxyless_jax.exchange.onnx import to_onnx

  network = space.choose([0] * len(space.edges))
  module = pj.build(network)
  variables = pj.init(module, jax.random.key(0))
  images = np.ones((1, *network.image_shape), np.float32)
  session = onnxruntime.InferenceSession(
    to_onnx(network, variables).SerializeToString(),
    providers=["CPUExecutionProvider"],
  )
  logits = module.apply(variables, images, train=False)
  found = session.run(None, {"images": images})[0]
  np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-5)


def test_layouts_refuse_what_has_no_place_in_them():
  network = chain_space().choose(["conv_k1_linear", "zero"])
  with pytest.raises(ValueError, match=r"'down': the .* place for 'conv_k1_"):
    pj.to_torch(network, {})
  with pytest.raises(ValueError, match="expected two edges before the blocks"):
    pj.to_torch(tree_space().choose([0] * 6), {})


@dataclasses.dataclass(frozen=True)
class Pair(pj.Network):
  """Two chains of edges that are added: a family of a user's own."""

  first: tuple[pj.Edge, ...]
  second: tuple[pj.Edge, ...]
  after: tuple[pj.Edge, ...]

  family = "pair"

  @property
  def edges(self):
    return (*self.first, *self.second)

  @property
  def layers(self):
    return (*self.edges, *self.after)

  def with_edges(self, edges):
    n = len(self.first)
    return dataclasses.replace(self, first=edges[:n], second=edges[n:])


def pair() -> Pair:
  ops = (ConvBN(1, "relu"), ConvBN(3, "relu"))
  first, second = (pj.Edge(name, ops, 3, 4, 1, 8) for name in ("a", "b"))
  end = pj.Edge("end", (Classifier(),), 4, 5, 1, 8)
  return Pair((first,), (second,), (end,))


def test_a_family_of_ones_own_has_json_counts_text_and_pictures(tmp_path):
  space, path = pair(), tmp_path / "pair.json"
  space.to_json(path)
  assert pj.load_network(path) == space
  network = space.choose(["conv_k1_relu", "conv_k3_relu"])
  assert pj.cost_table("macs", space).exact(network) == pj.macs(network)
  assert str(network).startswith("Pair of 8x8x3 images, 5 classes: ")
  draw_architecture(network, tmp_path / "a.svg", tmp_path / "a.png")


def test_errors_name_what_a_family_must_register():
  network = pair().choose([0, 0])
  for kind, name in (
    (lambda: pj.cost_table("memory", pair()), "hardware.beside.register"),
    (lambda: pj.to_torch(network, {}), "exchange.layouts.layout.register"),
  ):
    with pytest.raises(ValueError, match=re.escape(name)):
      kind()
  pytest.importorskip("onnx")
  from proxyless_jax.exchange.onnx import to_onnx

  with pytest.raises(ValueError, match=r"onnx_networks\.wire\.reg"):
    to_onnx(network, {})


def test_a_family_of_ones_own_registers_its_parts(tmp_path):
  class Other(Pair):
    family = "other pair"

  beside.register(Other, lambda network: {})
  default = drawing.dispatch(object)
  drawing.register(Other, lambda n: default(n)._replace(contents="a pair"))
  wire.register(Other, lambda network, graph, x, run: run(x, network.after[0]))
  layout.register(Other, lambda network: iter(()))

  space = pair()
  other = Other(space.first, space.second, space.after)
  assert pj.cost_table("memory", other).max_cost > 0
  assert pj.to_torch(other, {}) == {}
  path = tmp_path / "a.svg"
  draw_architecture(other.choose([0, 0]), path, tmp_path / "a.png")
  assert "a pair" in path.read_text()
