"""The module of a chain: counts, dtypes, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nn import build, init
from proxyless_jax.space import macs
from tests.spaces import small_space

IMAGES = np.random.default_rng(0).standard_normal((4, 8, 8, 3)).astype("f")


@pytest.fixture(scope="module")
def space():
  return small_space(
    image_size=8,
    channels=3,
    classes=5,
    stem_width=16,
    stem_stride=2,
    widths=(16,),
    depths=(1,),
    candidates=("mbconv6_k3", "mbconv3_k5", "zero"),
    head_width=64,
  )


@pytest.fixture(scope="module")
def network(space):
  return space.choose(["mbconv6_k3"])


def test_macs_are_half_the_floating_point_operations(network):
  """XLA counts no products with padding, but batch norm and pooling."""
  module = build(network)
  variables = init(module, jax.random.key(0))
  cost = (
    jax.jit(lambda images: module.apply(variables, images, train=False))
    .lower(IMAGES)
    .compile()
    .cost_analysis()
  )
  per_image = cost["flops"] / len(IMAGES)
  assert 0.9 < per_image / (2 * macs(network)) < 1.25


@pytest.mark.parametrize("train", [True, False])
def test_bfloat16_is_of_activations_alone(network, train):
  variables = init(build(network), jax.random.key(0))
  results = {}
  for dtype in (jnp.float32, jnp.bfloat16):
    logits, new = build(network, dtype=dtype).apply(
      variables, IMAGES, train=train, mutable=["batch_stats"]
    )
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {np.dtype("f")}
    results[dtype] = logits
  one, other = results.values()
  assert_allclose(one, other, atol=0.1 * np.abs(one).max())
  assert np.abs(one - other).max() > 0.0


def test_evaluation_leaves_statistics_alone(space):
  module = build(space)
  variables = init(module, jax.random.key(0))
  gates = gates_lib.path(jnp.array([1]), gates_lib.valid_candidates(space))
  _, new = module.apply(
    variables, IMAGES, train=False, gates=gates, mutable=["batch_stats"]
  )
  jax.tree.map(assert_array_equal, new["batch_stats"], variables["batch_stats"])


def test_a_space_is_initialised_by_the_packages_own(space):
  gates = gates_lib.path(jnp.array([1]), gates_lib.valid_candidates(space))
  with pytest.raises(ValueError, match=r"proxyless_jax\.init\(module, key\)"):
    jax.eval_shape(
      lambda: build(space).init(
        jax.random.key(0), jnp.asarray(IMAGES), train=False, gates=gates
      )
    )
