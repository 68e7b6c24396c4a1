"""Eight devices that share batches give the numbers of one."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

from proxyless_jax.nas import reinforce
from proxyless_jax.nas.arch_step import arch_step
from proxyless_jax.nas.weight_step import weight_step
from proxyless_jax.nn import build, init
from proxyless_jax.nn.layers.batch_norm import (
  MUTATED,
  BatchNorm,
  synced_batch_stats,
)
from proxyless_jax.parallel.collectives import (
  over_devices,
  per_example,
  psum_backward,
  psum_forward,
)
from proxyless_jax.parallel.mesh import jit_step, place, to_devices
from proxyless_jax.training.state import split_edges, train_state
from proxyless_jax.training.steps import (
  batch_statistics,
  eval_step,
  predict_step,
  train_step,
)

# Of float32 sums in another order, over two steps.
close = functools.partial(assert_allclose, rtol=1e-5, atol=2e-6)


def check(search, mesh, step, sharded=False, **settings):
  one = search.run(step, None, **settings)
  many = search.run(step, mesh, sharded, **settings)
  jax.tree.map(close, many, one)


@pytest.mark.parametrize("grad_accum,sharded", [(1, False), (2, True)])
def test_weight_step(search, mesh, grad_accum, sharded):
  settings = dict(search.weight, grad_accum=grad_accum)
  check(search, mesh, weight_step, sharded, **settings)


@pytest.mark.parametrize("mode", ["full", "two"])
def test_arch_step(search, mesh, mode):
  settings = dict(search.arch, mode=mode, grad_accum=1)
  check(search, mesh, arch_step, mode == "two", **settings)


def test_reinforce_step(search, mesh):
  settings = dict(samples=3, baseline_decay=0.9, entropy_weight=0.01)
  settings |= dict(search.arch, costs=(), grad_accum=1)
  state = search.state().replace(multipliers=jnp.zeros(0))
  check(search, mesh, reinforce.reinforce_step, state=state, **settings)


def test_training_and_evaluation_of_an_architecture(search, mesh):
  network = search.space.choose(["mbconv2_k3", "mbconv1_k5", "mbconv4_k3"])
  module = build(network, dropout=0.3)
  tx = optax.sgd(0.1, 0.9)
  state = train_state(jax.random.key(2), init(module, jax.random.key(0)), tx)
  settings = dict(module=module, tx=tx, label_smoothing=0.1, ema_decay=0.9)
  settings |= dict(drop_rate=lambda step: 0.2, grad_accum=1, state=state)
  for sharded in (False, True):
    check(search, mesh, train_step, sharded, **settings)
  variables = {"params": state.params, "batch_stats": state.batch_stats}
  for step in (eval_step, predict_step, batch_statistics):
    one, many = (
      jax.jit(functools.partial(step, module=module, mesh=m))(
        place(variables, m), to_devices(search.batch(0), m)
      )
      for m in (None, mesh)
    )
    jax.tree.map(close, many, one)


def test_a_frozen_body_keeps_its_bits(search, mesh):
  network = search.space.choose(["mbconv2_k3", "mbconv1_k5", "mbconv4_k3"])
  *body, _ = [edge.name for edge in network.layers]
  module = build(network, dropout=0.3, frozen=body)
  variables, tx = init(module, jax.random.key(0)), optax.sgd(0.1, 0.9)
  state = train_state(jax.random.key(2), variables, tx, module.frozen)
  settings = dict(module=module, tx=tx, label_smoothing=0.1, ema_decay=0.9)
  settings |= dict(drop_rate=None, grad_accum=2, state=state)
  one, _ = search.run(train_step, None, **settings)
  many, _ = search.run(train_step, mesh, True, **settings)
  jax.tree.map(close, many, one)
  after = {"params": many.params, "batch_stats": many.batch_stats}
  for found in (after, many.ema):
    jax.tree.map(
      np.testing.assert_array_equal,
      split_edges(found, module.frozen)[1],
      split_edges(variables, module.frozen)[1],
    )


def test_a_space_of_trees(tree_search, mesh):
  settings = dict(tree_search.weight, grad_accum=1)
  check(tree_search, mesh, weight_step, **settings)


def test_a_step_is_traced_once(search, mesh):
  traces = []

  def step(state, batch):
    traces.append(batch["image"].shape)
    return weight_step(state, batch, **search.weight, grad_accum=1, mesh=mesh)

  for sharded in (False, True):
    jitted = jit_step(step, mesh, sharded)
    state = place(search.state(), mesh, sharded)
    for i in range(3):
      state, _ = jitted(state, to_devices(search.batch(i), mesh))
  assert len(traces) == 2


def test_a_shard_state_takes_an_eighth_of_the_memory(search, mesh):
  def on_first(state):
    leaves = jax.tree.leaves((state.params, state.opt_state))
    return sum(leaf.addressable_data(0).nbytes for leaf in leaves)

  state = search.state()
  whole, part = (on_first(place(state, mesh, s)) for s in (False, True))
  assert part < 1.05 * whole / 8


def test_a_weight_step_gathers_the_drawn_rows_alone(search, mesh):
  state = place(search.state(), mesh, True)
  step = functools.partial(
    weight_step, **search.weight, grad_accum=1, mesh=mesh
  )
  batch = to_devices(search.batch(0), mesh)
  text = jit_step(step, mesh, True).lower(state, batch).compile().as_text()
  edges, candidates, length = state.params[search.space.edges[0].name].shape
  gathered = re.findall(r"= f32\[([\d,]*)\]\S* all-gather\(", text)
  assert f"{edges},1,{length}" in gathered
  assert f"{edges},{candidates},{length}" not in gathered


def test_losses_and_gradients_of_shares(mesh):
  """d/dw of the mean of (w x)^2, with the loss itself in a factor."""
  x = np.arange(1.0, 17.0, dtype=np.float32)

  def loss(w, x):
    mean = psum_forward(jnp.sum((psum_backward(w) * x) ** 2)) / 16
    return mean * jnp.log(mean)

  share = over_devices(jax.value_and_grad(loss), mesh)
  one = jax.value_and_grad(loss)(0.5, x)
  many = jax.jit(share)(jnp.float32(0.5), to_devices(x, mesh))
  assert_allclose(many, one, rtol=1e-6)


def test_random_numbers_of_examples(mesh):
  def draw(key, x):
    mine = per_example(lambda n: jax.random.normal(key, (n, 3)), len(x))
    return psum_forward(jnp.sum(mine * x[:, None]))

  key, x = jax.random.key(0), np.arange(16.0, dtype=np.float32)
  many = jax.jit(over_devices(draw, mesh))(key, to_devices(x, mesh))
  assert_allclose(many, draw(key, x), rtol=1e-5)


class Foreign(nn.Module):
  """Two norms, of which one is Linen's own."""

  @nn.compact
  def __call__(self, x):
    x = BatchNorm(name="ours")(x, True)
    return nn.BatchNorm(False, momentum=0.0, name="linens")(x + 1.0)


def test_a_norm_of_another_library_agrees_on_the_mean(mesh):
  x = np.random.default_rng(0).standard_normal((16, 2, 2, 3))
  x = (x * np.arange(1.0, 17.0)[:, None, None, None]).astype(np.float32)
  variables = Foreign().init(jax.random.key(0), x)

  def share(variables, x):
    _, told = Foreign().apply(variables, x, mutable=MUTATED)
    return synced_batch_stats(told)

  many = jax.jit(over_devices(share, mesh))(variables, to_devices(x, mesh))
  one = share(variables, x)
  jax.tree.map(close, many["ours"], one["ours"])
  got = many["linens"]["var"]
  copies = [np.asarray(shard.data) for shard in got.addressable_shards]
  assert all(np.array_equal(copy, copies[0]) for copy in copies)
  assert not np.allclose(got, one["linens"]["var"])
