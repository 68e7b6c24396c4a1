"""Maps saved or computed again: the same numbers, in the memory that is said.

Compiled with XLA's optimizations, as in a run: fusions are where the programs
could differ.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nn import build, init
from proxyless_jax.nn.networks.saved_bytes import saved_bytes
from tests.spaces import small_space, widening_tree_space

BATCH = 3


def chain():
  """Two kernel groups, and a skipped block, on two edges that are alike."""
  names = "mbconv2_k3", "mbconv2_k5", "mbconv3_k3_se4", "zero"
  return small_space(candidates=names)


@functools.partial(jax.jit, static_argnames="module")
def gradients(module, variables, arch, images, index):
  """Loss, new statistics, and gradients of weights, gates and images."""
  valid = gates_lib.valid_candidates(module.network)

  def loss(params, gate, images):
    gates = gates_lib.path(index, valid)
    gates = gates._replace(gate=gates.gate + gate, involved=valid)
    logits, new = module.apply(
      {**variables, "params": params},
      images,
      train=True,
      gates=gates,
      mutable=["batch_stats"],
    )
    return jnp.sum(jnp.sin(logits)), new

  return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(
    variables["params"], arch, images
  )


@pytest.mark.parametrize("space", [chain(), widening_tree_space()])
def test_saving_gives_the_numbers_of_computing_again(space):
  saves, recomputes = (build(space, recompute=r) for r in (False, True))
  variables = init(saves, jax.random.key(0))
  rng = np.random.default_rng(0)
  images = rng.standard_normal((BATCH, *space.image_shape)).astype(np.float32)
  valid = gates_lib.valid_candidates(space)
  arch = jnp.zeros(valid.shape)
  for first in range(valid.shape[1]):
    index = jnp.arange(first, first + len(valid)) % valid.shape[1]
    arguments = variables, arch, images, index
    got = gradients(saves, *arguments)
    want = gradients(recomputes, *arguments)
    jax.tree.map(assert_array_equal, got, want)


def test_saved_bytes_are_those_of_the_widest_candidate():
  names = "mbconv2_k3", "mbconv3_k5", "zero"
  space = small_space(widths=(8,), depths=(2,), candidates=names)
  # Two edges of 6x6 pixels: 3 * 8 filtered, 8 projected.
  numbers = 2 * BATCH * 36 * (24 + 8)
  assert saved_bytes(space, BATCH) == 4 * numbers
  assert saved_bytes(space, BATCH, jnp.bfloat16) == 2 * numbers
