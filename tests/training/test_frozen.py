"""Frozen edges: they run as in evaluation, and a step keeps their bits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from proxyless_jax.nn import build, cpu_kernels, init
from proxyless_jax.space import mobile_space, tree_space
from proxyless_jax.space.networks.genotype import Genotype, Style, cell_network
from proxyless_jax.training.optimizers import weight_optimizer
from proxyless_jax.training.state import split_edges, train_state
from proxyless_jax.training.steps import eval_step, train_step
from tests.spaces import small_space

CHAIN = small_space(
  stem_width=4, widths=(4,), candidates=("mbconv3_k3", "mbconv3_k5")
).choose(["mbconv3_k3", "mbconv3_k5"])
TREE = tree_space(
  image_size=6, channels=2, classes=3, stem_width=4, alpha=2, depths=(1,)
).choose(["sep_conv_3", "avg_pool_3"] * 6)
CELLS = cell_network(
  Genotype(
    normal="sep_3:0 skip:1",
    normal_outputs=(2,),
    reduction="max_2:1 skip:0",
    reduction_outputs=(2,),
  ),
  Style(epsilon=1e-3),
  (6, 2, 3),
  cells=1,
  filters=4,
  stem_filters=4,
)
TX = weight_optimizer(
  0.1, momentum=0.0, nesterov=False, weight_decay=0.3, kernels_only=True
)

pytestmark = pytest.mark.usefixtures("quick_compilation_of_module")


def variables_of(network):
  """With negative zeros, which adding nothing would change."""
  rng = np.random.default_rng(0)
  variables = init(build(network), jax.random.key(0))
  stats = jax.tree.map(
    lambda a: jnp.asarray(1 + 0.3 * rng.random(a.shape), a.dtype),
    variables["batch_stats"],
  )
  params = jax.tree.map(lambda a: jnp.where(a == 0, -a, a), variables["params"])
  return {"params": params, "batch_stats": stats}


def body_of(network):
  return [edge.name for edge in network.layers[:-1]]


def batch_of(network, seed=0):
  rng = np.random.default_rng(seed)
  size, channels = network.image_size, network.channels
  image = rng.standard_normal((4, size, size, channels))
  return {
    "image": jnp.asarray(image, jnp.float32),
    "label": jnp.asarray(rng.integers(3, size=4), jnp.int32),
    "mask": jnp.ones(4),
  }


def same_bits(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  same = jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), one, other)
  assert all(jax.tree.leaves(same))


@pytest.mark.parametrize(
  "network", [CHAIN, TREE, CELLS], ids=["chain", "tree", "cells"]
)
def test_a_frozen_body_runs_as_in_evaluation(network):
  variables, images = variables_of(network), batch_of(network)["image"]
  module = build(network, frozen=body_of(network))

  @jax.jit
  def both(variables):
    options = dict(rngs={"dropout": jax.random.key(0)}, mutable=["batch_stats"])
    trained = module.apply(variables, images, True, drop_rate=0.9, **options)
    return *trained, module.apply(variables, images, False)

  logits, new, evaluated = both(variables)
  assert_array_equal(logits, evaluated)
  same_bits(new["batch_stats"], variables["batch_stats"])


def first(network, frozen, grad_accum=1):
  """A state, and a jitted step from it."""
  module = build(network, frozen=frozen)
  variables = variables_of(network)
  state = train_state(jax.random.key(1), variables, TX, module.frozen)
  step = functools.partial(
    train_step,
    module=module,
    tx=TX,
    label_smoothing=0.0,
    ema_decay=0.9,
    drop_rate=None,
    grad_accum=grad_accum,
  )
  return state, jax.jit(step)


def run(network, frozen, grad_accum=1, count=2):
  state, step = first(network, frozen, grad_accum)
  for i in range(count):
    state, _ = step(state, batch_of(network, i))
  return state


@pytest.mark.parametrize(
  "network, grad_accum", [(CHAIN, 2), (TREE, 1)], ids=["chain", "tree"]
)
def test_steps_keep_every_bit_of_a_frozen_body(network, grad_accum):
  before, body = variables_of(network), frozenset(body_of(network))
  state = run(network, body, grad_accum)
  after = {"params": state.params, "batch_stats": state.batch_stats}
  for variables in (after, state.ema):
    same_bits(split_edges(variables, body)[1], split_edges(before, body)[1])
  name = network.layers[-1].name
  moved = jax.tree.map(
    lambda a, b: (a != b).any(), state.params[name], before["params"][name]
  )
  assert all(jax.tree.leaves(moved))


def test_the_classifier_has_the_gradient_of_a_linear_layer():
  """By hand, on the features of evaluation, decay included."""
  name, body = CHAIN.layers[-1].name, body_of(CHAIN)
  variables, batch = variables_of(CHAIN), batch_of(CHAIN)
  layer = variables["params"][name]["classifier"]
  logits, told = build(CHAIN).apply(
    variables,
    batch["image"],
    train=False,
    capture_intermediates=lambda module, _: module.name == body[-1],
  )
  features = jax.tree.leaves(told["intermediates"])[0].mean((1, 2))
  error = (jax.nn.softmax(logits) - jax.nn.one_hot(batch["label"], 3)) / 4
  kernel = layer["kernel"] - 0.1 * (features.T @ error + 0.3 * layer["kernel"])
  state = run(CHAIN, body, count=1)
  found = state.params[name]["classifier"]
  assert_allclose(found["kernel"], kernel, rtol=1e-5, atol=1e-7)
  bias = layer["bias"] - 0.1 * error.sum(0)
  assert_allclose(found["bias"], bias, rtol=1e-5, atol=1e-7)


def test_a_frozen_body_costs_a_forward_pass():
  batch = batch_of(CHAIN)

  def flops(function, *args):
    # The kernels for CPUs do not say what they compute.
    with cpu_kernels.enabled(False):
      return jax.jit(function).lower(*args).cost_analysis()["flops"]

  frozen, whole = (
    flops(step, state, batch)
    for state, step in (first(CHAIN, body_of(CHAIN)), first(CHAIN, ()))
  )
  forward = flops(
    functools.partial(eval_step, module=build(CHAIN)),
    *(variables_of(CHAIN), batch),
  )
  assert forward < frozen < 1.1 * forward < 0.5 * whole


def test_any_edges_can_be_frozen():
  frozen = frozenset(body_of(CHAIN)[:2])
  before, state = variables_of(CHAIN), run(CHAIN, frozen, count=1)
  after = {"params": state.params, "batch_stats": state.batch_stats}
  (rest, kept), (others, given) = (
    split_edges(variables, frozen) for variables in (after, before)
  )
  same_bits(kept, given)
  moved = jax.tree.map(lambda a, b: (a != b).any(), rest, others)
  assert all(jax.tree.leaves(moved))


def test_names_of_no_edges_are_refused():
  with pytest.raises(ValueError, match=r"frozen = \['body'\]: expected names"):
    build(CHAIN, frozen=["body"])
  for wrong in ("stem", None, 3):
    with pytest.raises(ValueError, match=f"frozen = {wrong!r}: expected names"):
      build(CHAIN, frozen=wrong)
  space = mobile_space(image_size=32)
  with pytest.raises(ValueError, match=r"names of an architecture's edges"):
    build(space, frozen=["stem"])
