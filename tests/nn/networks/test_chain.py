"""The module of a chain: counts, dtypes, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nn import build, init
from proxyless_jax.space import macs, mobile_space

SPACE = mobile_space(
  image_size=8,
  channels=3,
  classes=5,
  stem_width=16,
  stem_stride=2,
  first_width=0,
  widths=(16,),
  depths=(1,),
  strides=(1,),
  candidates=("mbconv6_k3", "mbconv3_k5", "zero"),
  head_width=64,
)
NETWORK = SPACE.choose(["mbconv6_k3"])
IMAGES = np.random.default_rng(0).standard_normal((4, 8, 8, 3)).astype("f")


def test_macs_are_half_the_floating_point_operations():
  """XLA counts no products with padding, but batch norm and pooling."""
  module = build(NETWORK)
  variables = init(module, jax.random.key(0))
  cost = (
    jax.jit(lambda images: module.apply(variables, images, train=False))
    .lower(IMAGES)
    .compile()
    .cost_analysis()
  )
  per_image = cost["flops"] / len(IMAGES)
  assert 0.9 < per_image / (2 * macs(NETWORK)) < 1.25


@pytest.mark.parametrize("train", [True, False])
def test_bfloat16_is_of_activations_alone(train):
  variables = init(build(NETWORK), jax.random.key(0))
  results = {}
  for dtype in (jnp.float32, jnp.bfloat16):
    logits, new = build(NETWORK, dtype=dtype).apply(
      variables, IMAGES, train=train, mutable=["batch_stats"]
    )
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {np.dtype("f")}
    results[dtype] = logits
  one, other = results.values()
  assert_allclose(one, other, atol=0.1 * np.abs(one).max())
  assert np.abs(one - other).max() > 0.0


def test_evaluation_leaves_statistics_alone():
  module = build(SPACE)
  variables = init(module, jax.random.key(0))
  gates = gates_lib.path(jnp.array([1]), gates_lib.valid_candidates(SPACE))
  _, new = module.apply(
    variables, IMAGES, train=False, gates=gates, mutable=["batch_stats"]
  )
  jax.tree.map(assert_array_equal, new["batch_stats"], variables["batch_stats"])


def test_a_space_is_initialised_by_the_packages_own():
  gates = gates_lib.path(jnp.array([1]), gates_lib.valid_candidates(SPACE))
  with pytest.raises(ValueError, match=r"proxyless_jax\.init\(module, key\)"):
    jax.eval_shape(
      lambda: build(SPACE).init(
        jax.random.key(0), jnp.asarray(IMAGES), train=False, gates=gates
      )
    )
