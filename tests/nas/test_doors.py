"""What can be changed from outside the package, without copying a step.

Each example is a function or a class of its own: docs/extend.md shows them.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from proxyless_jax.hardware import cost_table
from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas import objective
from proxyless_jax.nas.arch_step import arch_step
from proxyless_jax.nas.optimizers import arch_optimizer, on_involved
from proxyless_jax.nas.reinforce import surrogate
from proxyless_jax.nas.state import search_state
from proxyless_jax.nas.weight_step import weight_step
from proxyless_jax.nn import build, init
from proxyless_jax.training.optimizers import weight_optimizer
from tests.spaces import small_space


# Another way to draw gates. ------------------------------------------------
def exploring_draw(key, arch, valid, mode):
  """`gates.draw`, but a fifth of the edges draw uniformly."""
  gates = gates_lib.draw(key, arch, valid, mode)
  which_key, uniform_key = jax.random.split(jax.random.fold_in(key, 1))
  even = gates_lib.masked(jnp.zeros_like(arch), gates.involved)
  uniform = jax.random.categorical(uniform_key, even)
  explores = jax.random.bernoulli(which_key, 0.2, uniform.shape)
  index = jnp.where(explores, uniform, gates.index).astype(jnp.int32)
  logits = gates_lib.masked(arch, gates.involved)
  gate = gates_lib.straight_through(logits, index)
  return gates._replace(index=index, gate=gate)


# Another term of the objective. --------------------------------------------
def entropy_term(probs):
  """0.1 times the entropy of all edges: decisions become clear sooner."""
  return -0.1 * jnp.sum(probs * jnp.log(probs + 1e-9))


# Another form of a cost. ---------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Hinge(objective.Form):
  """weight * max(0, c / limit - 1): free below the limit."""

  limit: float
  weight: float

  def penalty(self, cost, multiplier):
    del multiplier
    return self.weight * jnp.maximum(0.0, cost / self.limit - 1.0)


# Other optimizers: by name, and any of optax's. ----------------------------
def own_optimizers():
  """Optimizers of the weights and of the architecture."""
  weights = optax.chain(optax.clip_by_global_norm(1.0), optax.lion(1e-3))
  return weights, on_involved(optax.rmsprop(1e-3))


SPACE = small_space(
  image_size=4,
  channels=1,
  depths=(1,),
  candidates=("conv_k1", "conv_k3", "mbconv1_k3"),
)
MODULE, VALID = build(SPACE), gates_lib.valid_candidates(SPACE)
TABLE = cost_table("macs", SPACE)
DESCENT = on_involved(optax.sgd(1.0))  # What alpha moves by is its gradient.
ARCH = np.array([[0.4, -0.3, 0.1]], np.float32)


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
  """Most of the time here is XLA's; what is computed stays the same."""
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def variables():
  return init(MODULE, jax.random.key(0))


def first_state(variables, tx, arch_tx):
  state = search_state(
    jax.random.key(1), variables, VALID, tx, arch_tx, 0.0, costs=1
  )
  return state.replace(arch=jnp.asarray(ARCH))


def batch_of(seed):
  rng = np.random.default_rng(seed)
  return {
    "image": jnp.asarray(rng.standard_normal((8, 4, 4, 1)), jnp.float32),
    "label": jnp.asarray(rng.integers(3, size=8), jnp.int32),
    "mask": jnp.ones(8),
  }


COMMON = dict(module=MODULE, valid=VALID, label_smoothing=0.1, grad_accum=1)
LINEAR = objective.Cost("macs", TABLE, objective.Linear(0.1, TABLE.max_cost))
ARCH_STEP = dict(COMMON, tx=DESCENT, costs=(LINEAR,), mode="full")


def moved(state, **changes):
  """The gradient of alpha that an architecture step follows, f[e, k]."""
  step = jax.jit(functools.partial(arch_step, **ARCH_STEP | changes))
  return np.asarray(state.arch - step(state, batch_of(0))[0].arch)


def test_both_steps_take_another_draw(variables):
  tx = optax.sgd(0.1)
  state, drawn = first_state(variables, tx, DESCENT), []

  def only_second(key, arch, valid, mode):
    """The edge draws its second candidate; `draw` gives the rest."""
    drawn.append(mode)
    gates = gates_lib.draw(key, arch, valid, mode)
    index = jnp.ones_like(gates.index)
    logits = gates_lib.masked(arch, gates.involved)
    gate = gates_lib.straight_through(logits, index)
    return gates._replace(index=index, gate=gate)

  step = functools.partial(weight_step, **COMMON, tx=tx, draw=only_second)
  new, _ = jax.jit(step)(state, batch_of(0))
  name = SPACE.edges[0].name
  same = np.asarray(new.params[name] == state.params[name]).all(axis=-1)
  assert_array_equal(same, [[True, False, True]])
  assert (moved(state, draw=only_second, mode="two") != 0).any()
  # The architecture step draws once.
  assert drawn == ["full", "two"]


def test_an_exploring_draw_is_a_draw(variables):
  state = first_state(variables, optax.sgd(0.1), DESCENT)
  peaked = jnp.asarray([[9.0, 0.0, 0.0]])
  valid = np.ones((1, 3), bool)
  keys = jax.random.split(jax.random.key(0), 2000)
  draw = functools.partial(exploring_draw, arch=peaked, valid=valid)
  index = jax.vmap(lambda key: draw(key, mode="full").index)(keys)
  share = np.bincount(np.asarray(index)[:, 0], minlength=3) / len(keys)
  assert_allclose(share, [1 - 2 / 15, 1 / 15, 1 / 15], atol=0.02)
  assert np.isfinite(moved(state, draw=exploring_draw)).all()


def test_a_term_adds_its_gradient(variables):
  state = first_state(variables, optax.sgd(0.1), DESCENT)

  def alone(arch):
    return entropy_term(gates_lib.probabilities(arch, VALID))

  found = moved(state, terms=(entropy_term,)) - moved(state)
  assert_allclose(found, jax.grad(alone)(state.arch), atol=1e-6)
  paths, none = np.zeros((1, 1), np.int32), np.zeros(1, np.float32)
  by_draws = jax.grad(surrogate)(
    state.arch, VALID, paths, none, 0.0, (entropy_term,)
  )
  assert_allclose(by_draws, jax.grad(alone)(state.arch), atol=1e-6)


def test_a_form_of_ones_own_adds_its_gradient(variables):
  state = first_state(variables, optax.sgd(0.1), DESCENT)
  hinge = Hinge(limit=TABLE.min_cost, weight=0.3)

  def alone(arch):
    cost = TABLE.expected(gates_lib.probabilities(arch, VALID))
    return 0.3 * (cost / TABLE.min_cost - 1.0)

  costs = (objective.Cost("macs", TABLE, hinge),)
  found = moved(state, costs=costs) - moved(state, costs=())
  assert_allclose(found, jax.grad(alone)(state.arch), rtol=1e-3, atol=1e-5)


def named_optimizers(name):
  weights = weight_optimizer(
    0.01, optimizer=name, weight_decay=0.1, kernels_only=False
  )
  arch = arch_optimizer(0.01, optimizer=name, b1=0.9, b2=0.99, weight_decay=0.1)
  return weights, arch


@pytest.mark.parametrize("name", ["lion", "own"])
def test_any_optimizer_moves_the_path_and_nothing_else(name, variables):
  tx, arch_tx = own_optimizers() if name == "own" else named_optimizers(name)
  state = first_state(variables, tx, arch_tx)
  step = jax.jit(functools.partial(weight_step, **COMMON, tx=tx))
  new, _ = step(state, batch_of(0))
  bank = SPACE.edges[0].name
  same = np.asarray(new.params[bank] == state.params[bank]).all(axis=-1)
  assert_array_equal(same.sum(axis=1), [2])
  settings = dict(ARCH_STEP, tx=arch_tx, mode="two")
  after, _ = jax.jit(functools.partial(arch_step, **settings))(new, batch_of(1))
  before, probs = (gates_lib.probabilities(s.arch, VALID) for s in (new, after))
  # Of each edge the candidate outside the pair keeps its probability.
  kept = np.isclose(before, probs, rtol=1e-5)
  assert_array_equal(kept.sum(axis=1), [1])


def test_named_optimizers_are_those_of_optax():
  params = {"kernel": jnp.full((2, 2), 0.5), "bias": jnp.full(2, 0.5)}
  grads = {"kernel": jnp.full((2, 2), 0.1), "bias": jnp.full(2, -0.2)}
  settings = dict(b1=0.8, b2=0.95, weight_decay=0.1)
  mask = {"kernel": True, "bias": False}
  for name, make in (("adamw", optax.adamw), ("lion", optax.lion)):
    named = weight_optimizer(
      0.01, optimizer=name, kernels_only=True, **settings
    )
    want = make(0.01, mask=mask, **settings)
    got, plain = (
      tx.update(grads, tx.init(params), params)[0] for tx in (named, want)
    )
    jax.tree.map(assert_array_equal, got, plain)


def test_an_unknown_optimizer_is_refused():
  with pytest.raises(ValueError, match="optimizer = 'adma': expected one of"):
    named_optimizers("adma")


def test_a_state_that_does_not_follow_the_parameters_is_refused(variables):
  tx = optax.flatten(optax.adam(0.1))
  state = first_state(variables, tx, DESCENT)
  step = functools.partial(weight_step, **COMMON, tx=tx)
  with pytest.raises(ValueError, match="state unlike the parameters"):
    jax.eval_shape(step, state, batch_of(0))
