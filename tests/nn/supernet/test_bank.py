"""Banks: packing, counting, and picking an architecture's variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from proxyless_jax.nn import build, inherit, init
from proxyless_jax.nn.supernet import bank
from proxyless_jax.space import MBConv, mobile_space, parameters

SPACE = mobile_space(
  image_size=6,
  channels=2,
  classes=3,
  stem_width=8,
  stem_stride=1,
  first_width=8,
  widths=(8, 16),
  depths=(2, 1),
  strides=(1, 2),
  candidates=("mbconv1_k3", "mbconv2_k5", "zero"),
  head_width=8,
)


def size(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("collection", ["params", "batch_stats"])
def test_unpacking_undoes_packing(collection):
  position = bank.nameless(SPACE.edges[0])
  layout = bank.layout(MBConv(2, 5), position, collection)
  rng = np.random.default_rng(0)
  vector = rng.standard_normal(layout.length + 3).astype(np.float32)
  tree = jax.tree.map(np.asarray, layout.unpack(vector))
  packed = layout.pack(tree, len(vector))
  assert isinstance(packed, np.ndarray)
  assert_array_equal(packed[:-3], vector[:-3])
  assert_array_equal(packed[-3:], 0.0)
  shapes = {leaf.shape for leaf in jax.tree.leaves(tree)}
  assert shapes == set(layout.shapes)
  on_device = layout.pack(jax.tree.map(jnp.asarray, tree), len(vector))
  assert isinstance(on_device, jax.Array)
  assert_array_equal(on_device, packed)


def test_the_gradient_of_unpacking_is_packing():
  layout = bank.layout(MBConv(2, 3), bank.nameless(SPACE.edges[0]), "params")
  vector = jnp.arange(1.0, layout.length + 3)

  def loss(vector):
    leaves = jax.tree.leaves(layout.unpack(vector))
    return sum(jnp.sum(leaf**2) for leaf in leaves)

  want = 2.0 * vector.at[layout.length :].set(0.0)
  assert_array_equal(jax.grad(loss)(vector), want)


def test_every_candidate_has_the_parameters_that_its_operation_counts():
  for edge in SPACE.layers:
    position = bank.nameless(edge)
    lengths = [bank.layout(op, position, "params").length for op in edge.ops]
    assert lengths == [op.parameters(edge) for op in edge.ops]
    length = bank.Bank("any", (edge,), position).length("params")
    assert 0 <= length - max(lengths) < bank.ROW and length % bank.ROW == 0


def test_alike_edges_share_a_bank():
  runs = [[edge.name for edge in run] for run in bank.alike_runs(SPACE.edges)]
  assert runs == [["block01", "block02"], ["block03"]]
  variables = init(build(SPACE), jax.random.key(0))
  for collection, tree in variables.items():
    assert "block02" not in tree
    length = bank.banks(SPACE)[0].length(collection)
    assert tree["block01"].shape == (2, 3, length)
    assert tree["block03"].shape[:2] == (1, 2)


def test_an_architecture_inherits_the_bits_of_its_rows():
  variables = init(build(SPACE), jax.random.key(0))
  network = SPACE.choose(["mbconv2_k5", "zero", "mbconv1_k3"])
  own = inherit(SPACE, variables, network)
  expected = init(build(network), jax.random.key(1))
  assert jax.tree.structure(own) == jax.tree.structure(expected)
  jax.tree.map(lambda a, b: assert_array_equal(a.shape, b.shape), own, expected)
  assert size(own["params"]) == parameters(network)
  for name, i, j in (("block01", 0, 1), ("block03", 0, 0)):
    edge = next(edge for edge in SPACE.edges if edge.name == name)
    op = edge.ops[j]
    for collection in ("params", "batch_stats"):
      layout = bank.layout(op, bank.nameless(edge), collection)
      row = np.asarray(variables[collection][name][i, j])
      packed = layout.pack(own[collection][name][op.name], len(row))
      assert_array_equal(packed[: layout.length], row[: layout.length])
  for name in ("stem", "block00", "head", "classifier"):
    for collection in variables:
      jax.tree.map(
        assert_array_equal,
        own[collection].get(name),
        variables[collection].get(name),
      )
  assert "block02" not in own["params"]
