"""REINFORCE against the exact gradient over all architectures."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from proxyless_jax.hardware import CostTable, cost_table
from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas import objective, reinforce
from proxyless_jax.nas.optimizers import arch_optimizer
from proxyless_jax.nas.state import search_state
from proxyless_jax.nn import build, init
from proxyless_jax.training import metrics
from proxyless_jax.training.optimizers import weight_optimizer
from tests.spaces import small_space

# Three edges of 3, 1 and 2 candidates.
VALID = np.array([[True] * 3, [True, False, False], [True, True, False]])
ARCH = np.array([[0.3, -0.5, 0.8], [0.4, 0.0, 0.0], [-0.2, 0.6, 0.0]])
PATHS = np.array(
  list(itertools.product(range(3), range(1), range(2))), np.int32
)
COSTS = np.array([[3.0, 5.0, 9.0], [2.0, 0.0, 0.0], [4.0, 1.0, 0.0]])
TABLE = CostTable(
  COSTS, 1.5, "ms", "here", tuple("abc"), ("jkl", "j", "jk"), ()
)
GOALS = (
  objective.Cost("one", TABLE, objective.Multiplicative(10.0, 0.3)),
  objective.Cost("two", TABLE, objective.Absolute(9.0, 0.2)),
  objective.Cost("three", TABLE, objective.AtMost(8.0, 0.1)),
)
MULTIPLIERS = np.array([0.0, 0.0, 0.4])
ACCURACY = np.linspace(0.2, 0.9, len(PATHS))[[3, 1, 4, 0, 5, 2]]


def rewards():
  """Of each path, by hand."""
  cost = TABLE.fixed + COSTS[np.arange(3), PATHS].sum(axis=1)
  reward = ACCURACY * (10.0 / cost) ** 0.3
  return reward - 0.2 * abs(cost / 9.0 - 1) - 0.4 * (cost / 8.0 - 1)


def probabilities(arch):
  return jnp.exp(gates_lib.log_probability(arch, VALID, PATHS))


def estimator(arch, paths, advantages, entropy_weight=0.0):
  """The step's ascent direction."""
  gradient = jax.grad(reinforce.surrogate)
  return -gradient(arch, VALID, paths, advantages, entropy_weight)


def test_rewards_of_paths():
  with jax.enable_x64(True):
    values = reinforce._values(GOALS, jnp.asarray(PATHS), {})
    found = objective.reward(
      GOALS, jnp.asarray(ACCURACY), values, jnp.asarray(MULTIPLIERS)
    )
    assert_allclose(found, rewards(), rtol=1e-6)


@pytest.mark.parametrize("baseline", [0.0, 0.7, -3.0])
def test_the_expected_estimator_is_the_exact_gradient(baseline):
  """E over all architectures; the baseline leaves it as it is."""
  with jax.enable_x64(True):
    arch, reward = jnp.asarray(ARCH), jnp.asarray(rewards())
    exact = jax.grad(lambda a: probabilities(a) @ reward)(arch)
    expected = sum(
      p * estimator(arch, path[None], r[None] - baseline)
      for p, path, r in zip(probabilities(arch), PATHS, reward)
    )
    assert_allclose(expected, exact, rtol=1e-12, atol=1e-14)
    # An edge of one candidate is no decision.
    assert_array_equal(expected[1], 0.0)
    assert_array_equal(expected[~VALID], 0.0)


def test_the_sampled_estimator_agrees_in_the_mean():
  with jax.enable_x64(True):
    arch, reward = jnp.asarray(ARCH), jnp.asarray(rewards())
    exact = jax.grad(lambda a: probabilities(a) @ reward)(arch)
    number = {tuple(path): i for i, path in enumerate(PATHS.tolist())}
    paths = np.asarray(
      reinforce.draw_paths(jax.random.key(3), arch, VALID, 40_000)
    )
    drawn = np.array([number[tuple(path)] for path in paths.tolist()])
    counts = np.bincount(drawn, minlength=len(PATHS)) / len(drawn)
    assert_allclose(counts, probabilities(arch), atol=0.01)
    baseline = float(reward.mean())
    found = estimator(arch, paths, reward[drawn] - baseline)
    assert_allclose(found, exact, atol=3e-3)
    # The spread falls with a baseline near the mean reward.
    each = jax.vmap(lambda p, a: estimator(arch, p[None], a[None]))
    some = jnp.asarray(paths[:2000]), reward[drawn[:2000]]
    assert each(some[0], some[1] - baseline).var() < each(*some).var()


def test_the_gradient_of_the_entropy_is_exact():
  with jax.enable_x64(True):
    arch = jnp.asarray(ARCH)

    def entropy(arch):
      p = probabilities(arch)
      return -jnp.sum(p * jnp.log(p))

    found = estimator(arch, PATHS, jnp.zeros(len(PATHS)), 0.3)
    exact = 0.3 * jax.grad(entropy)(arch)
    assert_allclose(found, exact, rtol=1e-12, atol=1e-15)


SPACE = small_space(image_size=4, channels=1, candidates=("mbconv1_k3", "zero"))
SPACE_VALID = gates_lib.valid_candidates(SPACE)


def record():
  """An optimizer that subtracts the gradient: alpha - alpha' is it."""
  return optax.GradientTransformationExtraArgs(
    optax.init_empty_state,
    lambda grads, state, params=None, **_: (
      jax.tree.map(jnp.negative, grads),
      state,
    ),
  )


def batch_of(seed):
  rng = np.random.default_rng(seed)
  return {
    "image": jnp.asarray(rng.standard_normal((8, 4, 4, 1)), jnp.float32),
    "label": jnp.asarray(rng.integers(3, size=8), jnp.int32),
    "mask": jnp.asarray([1.0] * 7 + [0.0]),
  }


@pytest.fixture(scope="module")
def setting():
  module = build(SPACE)
  tx = weight_optimizer(
    0.05, momentum=0.9, nesterov=True, weight_decay=0.0, kernels_only=False
  )
  state = search_state(
    jax.random.key(1),
    init(module, jax.random.key(0)),
    SPACE_VALID,
    tx,
    record(),
    arch_scale=0.5,
    costs=1,
  )
  return module, state


def draws_of(module, samples=5):
  return functools.partial(
    reinforce.sample_step,
    module=module,
    valid=SPACE_VALID,
    samples=samples,
    label_smoothing=0.1,
    grad_accum=1,
  )


GOAL = objective.Cost(
  "macs", cost_table("macs", SPACE), objective.Exactly(9000.0, 0.5)
)
UPDATE = dict(valid=SPACE_VALID, tx=record(), costs=(GOAL,), baseline_decay=0.9)


def test_each_draw_is_evaluated_on_its_own_path(setting):
  module, state = setting
  traces = []

  def traced(*args):
    traces.append(args)
    return draws_of(module)(*args)

  @jax.jit
  def logits_of(state, images, path):
    logits, _ = module.apply(
      {"params": state.params, "batch_stats": state.batch_stats},
      images,
      train=True,
      gates=gates_lib.path(path, SPACE_VALID),
      mutable=["batch_stats"],
      rngs={"dropout": jax.random.key(0)},
    )
    return logits

  sample = jax.jit(traced)
  seen = set()
  for i in range(3):
    state = state.replace(step=jnp.array(i))
    draws, sums = sample(state, batch_of(i))
    assert draws.paths.shape == (6, 2) and draws.accuracy.shape == (5,)
    argmax = gates_lib.most_probable(state.arch, SPACE_VALID)
    assert_array_equal(draws.paths[-1], argmax)
    for path, accuracy in zip(draws.paths, draws.accuracy):
      seen.add(tuple(path.tolist()))
      logits = logits_of(state, batch_of(i)["image"], path)
      own = metrics.classification(logits, batch_of(i), 0.0)["top1"]
      assert_allclose(accuracy, own.total / own.count, rtol=1e-6)
    assert float(sums["arch_top1"].count) == 5 * 7
  assert len(seen) > 1
  assert len(traces) == 1


def test_baseline_multipliers_and_gradient_of_updates(setting):
  module, state = setting
  step = jax.jit(
    functools.partial(
      reinforce.reinforce_step,
      module=module,
      samples=5,
      label_smoothing=0.1,
      grad_accum=2,
      entropy_weight=0.01,
      **UPDATE,
    )
  )
  sample = jax.jit(functools.partial(draws_of(module), grad_accum=2))
  baseline = None
  for i in range(3):
    draws, _ = sample(state, batch_of(i))
    values = GOAL.table.of_path(draws.paths)
    excess = np.asarray(values / 9000.0 - 1.0)
    reward = draws.accuracy - state.multipliers[0] * excess[:-1]
    mean = float(reward.mean())
    baseline = mean if baseline is None else baseline
    want = jax.grad(reinforce.surrogate)(
      state.arch, SPACE_VALID, draws.paths[:-1], reward - baseline, 0.01
    )
    new, found = step(state, batch_of(i))
    assert_allclose(state.arch - new.arch, want, rtol=1e-4, atol=1e-6)
    assert_allclose(found["reward"].total, mean, rtol=1e-5)
    assert_allclose(found["baseline"].total, baseline, rtol=1e-5)
    baseline = 0.9 * baseline + 0.1 * mean
    assert_allclose(new.baseline, baseline, rtol=1e-5)
    want = state.multipliers[0] + 0.5 * excess[-1]
    assert_allclose(new.multipliers, [want], rtol=1e-5)
    assert int(new.updates) == i + 1
    for name in ("params", "batch_stats", "opt_state"):
      jax.tree.map(assert_array_equal, getattr(state, name), getattr(new, name))
    state = new.replace(step=new.step + 1)
  assert float(state.multipliers[0]) != 0.0


def test_costs_of_a_call_enter_between_the_halves(setting):
  module, state = setting
  draws, _ = draws_of(module)(state, batch_of(0))
  table = GOAL.table.of_path(draws.paths)
  called = GOAL._replace(name="own", table=None)
  update = functools.partial(
    reinforce.update_step, entropy_weight=0.0, **UPDATE
  )
  one, one_metrics = update(state, draws, {})
  other, metrics_ = update(state, draws, {"own": table}, costs=(called,))
  assert_array_equal(one.arch, other.arch)
  assert_array_equal(one.multipliers, other.multipliers)
  mean = metrics_["expected_own"].total
  assert_allclose(mean, np.mean(table[:-1]), rtol=1e-6)
  probs = gates_lib.probabilities(state.arch, SPACE_VALID)
  expected = one_metrics["expected_macs"].total
  assert_allclose(expected, GOAL.table.expected(probs), rtol=1e-6)


def test_it_finds_the_best_of_a_bandit():
  """Rewards alone, Adam, entropy bonus: the best path ends most probable."""
  tx = arch_optimizer(0.05, b1=0.0, b2=0.999, weight_decay=0.0)
  reward = jnp.asarray(rewards(), jnp.float32)
  arch = jnp.zeros(VALID.shape)
  table = np.zeros((3, 1, 2), int)
  for i, path in enumerate(PATHS):
    table[tuple(path)] = i

  def step(carry, key):
    arch, opt_state, baseline = carry
    paths = reinforce.draw_paths(key, arch, VALID, 10)
    drawn = reward[jnp.asarray(table)[paths[:, 0], paths[:, 1], paths[:, 2]]]
    grads = jax.grad(reinforce.surrogate)(
      arch, VALID, paths, drawn - baseline, 1e-3
    )
    updates, opt_state = tx.update(
      grads, opt_state, arch, drawn=True, involved=True
    )
    baseline = 0.9 * baseline + 0.1 * drawn.mean()
    return (optax.apply_updates(arch, updates), opt_state, baseline), None

  keys = jax.random.split(jax.random.key(0), 300)
  (arch, *_), _ = jax.lax.scan(step, (arch, tx.init(arch), 0.0), keys)
  best = PATHS[int(np.argmax(rewards()))]
  assert_array_equal(gates_lib.most_probable(arch, VALID), best)
