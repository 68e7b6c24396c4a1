"""Banks: packing and counting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from proxyless_jax.nn import build, init
from proxyless_jax.nn.supernet import bank
from proxyless_jax.space import MBConv


@pytest.mark.parametrize("collection", ["params", "batch_stats"])
def test_unpacking_undoes_packing(space, collection):
  position = bank.nameless(space.edges[0])
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


def test_the_gradient_of_unpacking_is_packing(space):
  layout = bank.layout(MBConv(2, 3), bank.nameless(space.edges[0]), "params")
  vector = jnp.arange(1.0, layout.length + 3)

  def loss(vector):
    leaves = jax.tree.leaves(layout.unpack(vector))
    return sum(jnp.sum(leaf**2) for leaf in leaves)

  want = 2.0 * vector.at[layout.length :].set(0.0)
  assert_array_equal(jax.grad(loss)(vector), want)


def test_every_candidate_has_the_parameters_that_its_operation_counts(space):
  for edge in space.layers:
    position = bank.nameless(edge)
    lengths = [bank.layout(op, position, "params").length for op in edge.ops]
    assert lengths == [op.parameters(edge) for op in edge.ops]
    length = bank.Bank("any", (edge,), position).length("params")
    assert 0 <= length - max(lengths) < bank.ROW and length % bank.ROW == 0


def test_alike_edges_share_a_bank(space):
  runs = [[edge.name for edge in run] for run in bank.alike_runs(space.edges)]
  assert runs == [["block01", "block02"], ["block03"]]
  variables = init(build(space), jax.random.key(0))
  for collection, tree in variables.items():
    assert "block02" not in tree
    length = bank.banks(space)[0].length(collection)
    assert tree["block01"].shape == (2, 3, length)
    assert tree["block03"].shape[:2] == (1, 2)
