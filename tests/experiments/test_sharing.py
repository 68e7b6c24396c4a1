"""Filters that candidates share, against slices written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.macro import sharing
from proxyless_jax.nn import build, init
from proxyless_jax.nn.supernet.bank import layout, nameless
from tests.spaces import small_space


@pytest.fixture(scope="module")
def space():
  return small_space(candidates=("mbconv6_k5", "zero", "mbconv3_k3"))


@pytest.fixture(scope="module")
def filters(space):
  return sharing.bank_filters(space)


def unpacked(space, params, candidate):
  edge = space.edges[0]
  row = np.asarray(params[edge.name][0, candidate])
  return layout(edge.ops[candidate], nameless(edge), "params").unpack(row)


@pytest.fixture(scope="module")
def shared(space, filters):
  params = init(build(space), jax.random.key(0))["params"]
  return sharing.share(params, filters)


def test_the_small_has_first_channels_and_middles_of_kernels(space, shared):
  large, small = (unpacked(space, shared, i) for i in (0, 2))
  leaves = zip(jax.tree.leaves(small), jax.tree.leaves(large), strict=True)
  kernels = 0
  for part, whole in leaves:
    cut = [slice(size) for size in part.shape]
    for axis, (size, of_whole) in enumerate(zip(part.shape, whole.shape)):
      if (size, of_whole) == (3, 5):
        kernels += 1
        cut[axis] = slice(1, 4)
    assert np.array_equal(part, whole[tuple(cut)])
  assert kernels == 2  # Both axes of the depthwise kernel.


def test_a_step_of_either_moves_both(space, filters, shared):
  """One edge trains the small candidate, the other the large one."""
  name, of = next(iter(filters.items()))
  assert (of.small, of.large) == (2, 0)
  after = shared[name].at[0, 2, : len(of.at)].add(1.0).at[1, 0].add(2.0)
  params = sharing.keep_shared(shared, {**shared, name: after}, filters)
  moved = params[name] - shared[name]
  assert np.allclose(moved[0, 0, of.at], 1.0, atol=1e-6)
  assert np.allclose(moved[0, 2, : len(of.at)], 1.0, atol=1e-6)
  assert jnp.count_nonzero(moved[0, 0]) == len(of.at)
  assert np.allclose(moved[1, 2, : len(of.at)], 2.0, atol=1e-6)


def test_steps_of_both_are_averaged(filters, shared):
  name, of = next(iter(filters.items()))
  after = shared[name].at[0, 2, : len(of.at)].add(1.0).at[0, 0, of.at].add(3.0)
  params = sharing.keep_shared(shared, {**shared, name: after}, filters)
  moved = params[name] - shared[name]
  assert np.allclose(moved[0, 0, of.at], 2.0, atol=1e-6)
  assert np.allclose(moved[0, 2, : len(of.at)], 2.0, atol=1e-6)
