"""Epsilon and momentum of batch norm are what the description says."""

import dataclasses

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

import proxyless_jax as pj
from proxyless_jax.space import (
  Classifier,
  ConvBN,
  Edge,
  MBConv,
  Norm,
  NormConv,
  NormSepConv,
  parse_op,
)
from tests.spaces import small_space

pytestmark = pytest.mark.usefixtures("quick_compilation_of_module")


OPS = (
  ConvBN(3),
  MBConv(3, 3),
  MBConv(1, 5, squeeze=2),
  NormConv(3),
  NormSepConv(3),
  NormSepConv(3, dilated=True),
  Norm(relu=True),
)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_epsilon_is_added_to_every_variance(plain, op):
  """(x - mean) / sqrt(var + epsilon) keeps its value where the sum does."""
  other = dataclasses.replace(op, epsilon=0.125)
  edge = Edge("any", (op,), 4, 4, 1, 5)
  variables, x = plain.variables_of(op, edge), plain.images_of(edge)
  less = jax.tree.map_with_path(
    lambda path, leaf: (
      leaf - (0.125 - op.epsilon) if path[-1].key == "var" else leaf
    ),
    variables,
  )
  want = plain.run(op, edge, variables, x, False)
  assert_allclose(
    plain.run(other, edge, less, x, False), want, rtol=1e-4, atol=1e-5
  )
  wrong = plain.run(op, edge, less, x, False)
  assert np.abs(np.asarray(wrong) - want).max() > 0.05
  assert other.name == op.name


def chain(momentum):
  edges = (
    Edge("stem", (ConvBN(3),), 3, 4, 1, 6),
    Edge("classifier", (Classifier(),), 4, 2, 1, 6),
  )
  return pj.Chain((), edges, (), momentum)


@pytest.mark.parametrize("asked, kept", [(None, 0.25), (0.5, 0.5), (0.0, 0.0)])
def test_running_statistics_keep_the_networks_share(asked, kept):
  network = chain(0.25)
  module = pj.build(network, bn_momentum=asked)
  variables = pj.init(module, jax.random.key(0))
  images = np.random.default_rng(0).standard_normal((2, 6, 6, 3), np.float32)

  def mean(module):
    _, new = module.apply(variables, images, True, mutable=["batch_stats"])
    return new["batch_stats"]["stem"]["conv_k3"]["bn"]["mean"]

  batch = mean(pj.build(network, bn_momentum=0.0))
  assert_allclose(mean(module), (1.0 - kept) * batch, rtol=1e-6)
  assert pj.build(chain(0.9)).bn_momentum == 0.9


def test_a_supernet_has_them_too():
  """The drawn path of a supernet gives what its architecture gives."""
  candidates = [MBConv(e, 3, epsilon=0.2) for e in (2, 3)] + ["zero"]
  space = small_space(image_size=8, channels=3, candidates=candidates)
  space = dataclasses.replace(space, bn_momentum=0.25)
  images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
  variables = pj.init(pj.build(space), jax.random.key(0))
  network = space.choose([0, 1])
  assert network.bn_momentum == pj.build(space).bn_momentum == 0.25
  index = np.array([0, 1], np.int32)
  gates = pj.nas.gates.Gates(
    index=index,
    gate=np.eye(3, dtype=np.float32)[index],
    involved=np.eye(3, dtype=bool)[index],
    probs=np.eye(3, dtype=np.float32)[index],
  )
  run = jax.jit(pj.build(space).apply, static_argnums=2)
  searched = run(variables, images, False, gates)
  own = pj.inherit(space, variables, network)
  assert_allclose(
    searched, pj.build(network).apply(own, images, False), rtol=1e-5, atol=1e-6
  )
  plain = dataclasses.replace(
    network,
    edges=tuple(
      dataclasses.replace(edge, ops=(parse_op(edge.op.name),))
      for edge in network.edges
    ),
  )
  assert not np.allclose(
    searched, pj.build(plain).apply(own, images, False), rtol=1e-3
  )
