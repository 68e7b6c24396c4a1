"""First variables: their distributions, and that a key fixes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from proxyless_jax.nn import build, inherit, init
from proxyless_jax.space import parameters
from tests.spaces import small_space


@pytest.fixture(scope="module")
def wide():
  return small_space(
    channels=3,
    classes=100,
    stem_width=64,
    widths=(64,),
    depths=(1,),
    candidates=("mbconv6_k7", "mbconv3_k3", "zero"),
    head_width=128,
  )


@pytest.fixture(scope="module")
def network(wide):
  return wide.choose(["mbconv6_k7"])


def flat(tree):
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def expected_deviation(name, shape):
  """He et al. over the fan-out; 0.01 in the classifier; constants else."""
  if name == "classifier/classifier/kernel":
    return 0.01
  if len(shape) == 1:
    return 0.0
  return np.sqrt(2.0 / (shape[0] * shape[1] * shape[3]))


def check_distribution(params):
  for name, leaf in flat(params).items():
    deviation = expected_deviation(name, leaf.shape)
    # A depthwise kernel's fan-out counts all its channels, as released.
    if deviation == 0.0:
      assert_array_equal(leaf, 1.0 if name.endswith("scale") else 0.0)
      continue
    assert_allclose(leaf.std(), deviation, rtol=4 / np.sqrt(2 * leaf.size))
    assert abs(leaf.mean()) < 4 * deviation / np.sqrt(leaf.size)


def test_distribution_of_each_leaf(wide, network):
  variables = init(build(network), jax.random.key(0))
  check_distribution(variables["params"])
  for name, leaf in flat(variables["batch_stats"]).items():
    assert_array_equal(leaf, 1.0 if name.endswith("var") else 0.0)
  own = inherit(wide, init(build(wide), jax.random.key(1)), network)
  check_distribution(own["params"])
  sizes = [leaf.size for leaf in jax.tree.leaves(variables["params"])]
  assert sum(sizes) == parameters(network)


def test_a_key_fixes_the_draw(wide):
  module = build(wide)
  one, same, other = (
    flat(init(module, jax.random.key(seed))) for seed in (0, 0, 1)
  )
  for name, leaf in one.items():
    assert leaf.dtype == np.float32
    assert_array_equal(leaf, same[name])
  assert (one["params/block01"] != other["params/block01"]).any()
  legacy = init(module, jax.random.PRNGKey(0))
  jax.tree.map(assert_array_equal, one, flat(legacy))


def test_no_two_kernels_are_one_draw():
  space = small_space(depths=(3,), candidates=("mbconv3_k3", "mbconv6_k3"))
  rows = init(build(space), jax.random.key(0))["params"]["block01"]
  # Rows begin with those of norms, which are not drawn.
  draws = np.asarray(rows)[:, :, 256:320].reshape(-1, 64)
  assert len({draw.tobytes() for draw in draws}) == len(draws) == 6


def test_linens_own_init_gives_the_same_tree():
  small = small_space(channels=3, depths=(1,)).choose([0])
  module = build(small)
  images = jnp.zeros((1, 6, 6, 3))
  of_linen = jax.eval_shape(
    lambda key: module.init(key, images, False), jax.random.key(0)
  )
  ours = init(module, jax.random.key(0))
  assert jax.tree.structure(of_linen) == jax.tree.structure(ours)
  for one, other in zip(jax.tree.leaves(of_linen), jax.tree.leaves(ours)):
    assert (one.shape, one.dtype) == (other.shape, other.dtype)
