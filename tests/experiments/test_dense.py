"""The dense supernet against the networks that it is made of."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

from experiments import dense, workloads
from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nn import build
from tests.spaces import small_space


@pytest.fixture(scope="module")
def space():
  return small_space(channels=3, classes=10)


@pytest.fixture(scope="module")
def variables(space):
  return dense.dense_variables(space, jax.random.key(0))


def test_one_hot_weights_are_the_chosen_network(space, variables):
  batch = workloads.make_batch(space, jax.random.key(1), 4)
  path = [1, 2]
  network = space.choose(path)
  own = {
    collection: {
      edge.name: {edge.op.name: edges[edge.name][edge.op.name]}
      for edge in network.layers
      if edge.op.name in edges.get(edge.name, {})
    }
    for collection, edges in variables.items()
  }
  probs = jax.nn.one_hot(jnp.array(path), 3)
  logits, _ = jax.jit(
    lambda: dense.DenseModule(space).apply(
      variables, batch["image"], probs, True, mutable=["batch_stats"]
    )
  )()
  wanted, _ = build(network).apply(
    own, batch["image"], True, mutable=["batch_stats"]
  )
  assert_allclose(logits, wanted, rtol=1e-5, atol=1e-5)


def test_a_step_trains_all_candidates_and_alpha(space):
  tx, arch_tx = workloads.optimizer(), optax.adam(0.1)
  state = dense.dense_state(space, jax.random.key(0), tx, arch_tx)
  step = functools.partial(
    dense.dense_step,
    module=dense.DenseModule(space),
    tx=tx,
    arch_tx=arch_tx,
    label_smoothing=0.0,
  )
  batch = workloads.make_batch(space, jax.random.key(1), 4)
  after, metrics = jax.jit(step)(state, batch)
  assert metrics["loss"].count == 4
  moved = jax.tree.map(
    lambda a, b: bool(np.any(a != b)), state.params, after.params
  )
  assert all(jax.tree.leaves(moved))
  valid = gates_lib.valid_candidates(space)
  np.testing.assert_array_equal(after.arch != state.arch, valid)
