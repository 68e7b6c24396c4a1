"""An architecture's variables, picked from those of its space."""

import jax
import numpy as np
from numpy.testing import assert_array_equal

from proxyless_jax.nn import build, inherit, init
from proxyless_jax.nn.supernet import bank
from proxyless_jax.space import parameters


def size(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_an_architecture_inherits_the_bits_of_its_rows(space):
  variables = init(build(space), jax.random.key(0))
  network = space.choose(["mbconv2_k5", "zero", "mbconv1_k3"])
  own = inherit(space, variables, network)
  expected = init(build(network), jax.random.key(1))
  assert jax.tree.structure(own) == jax.tree.structure(expected)
  jax.tree.map(lambda a, b: assert_array_equal(a.shape, b.shape), own, expected)
  assert size(own["params"]) == parameters(network)
  for name, i, j in (("block01", 0, 1), ("block03", 0, 0)):
    edge = next(edge for edge in space.edges if edge.name == name)
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
