"""Each form of the objective against plain Python, and its gradient."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proxyless_jax.nas import objective
from proxyless_jax.nas.objective import (
  Absolute,
  AtMost,
  Cost,
  Exactly,
  Linear,
  Log,
  Multiplicative,
)

# Quality (cross-entropy or accuracy), cost, multiplier.
POINTS = [(2.5, 60.0, 0.0), (0.7, 120.0, 0.4), (1.0, 80.0, 1.5)]
# The form; its factor and penalty by hand.
FORMS = {
  "linear": (
    Linear(weight=0.3, reference=80.0),
    lambda c, m: 1.0,
    lambda c, m: 0.3 * (c - 80.0) / 80.0,
  ),
  "log": (
    Log(scale=0.2, exponent=0.3, reference=80.0),
    lambda c, m: 0.2 * (math.log(c) / math.log(80.0)) ** 0.3,
    lambda c, m: 0.0,
  ),
  "multiplicative": (
    Multiplicative(target=80.0, exponent=0.1),
    lambda c, m: (80.0 / c) ** 0.1,
    lambda c, m: 0.0,
  ),
  "absolute": (
    Absolute(target=80.0, weight=0.2),
    lambda c, m: 1.0,
    lambda c, m: 0.2 * abs(c / 80.0 - 1.0),
  ),
  "at_most": (
    AtMost(target=80.0, rate=0.01),
    lambda c, m: 1.0,
    lambda c, m: m * (c / 80.0 - 1.0),
  ),
  "exactly": (
    Exactly(target=80.0, rate=0.01),
    lambda c, m: 1.0,
    lambda c, m: m * (c / 80.0 - 1.0),
  ),
}


def costs_of(*names):
  return tuple(Cost(name, None, FORMS[name][0]) for name in names)


@pytest.mark.parametrize("quality, cost, multiplier", POINTS)
@pytest.mark.parametrize("name", FORMS)
def test_losses_and_rewards_of_one_cost(name, quality, cost, multiplier):
  _, factor, penalty = FORMS[name]
  multiplied = quality * factor(cost, multiplier)
  added = penalty(cost, multiplier)
  with jax.enable_x64(True):
    multipliers = jnp.array([multiplier])
    found = objective.loss(
      costs_of(name), jnp.float64(quality), jnp.array([cost]), multipliers
    )
    np.testing.assert_allclose(found, multiplied + added, rtol=1e-14)
    found = objective.reward(
      costs_of(name), jnp.array([quality]), jnp.array([[cost]]), multipliers
    )
    np.testing.assert_allclose(found, [multiplied - added], rtol=1e-14)


@pytest.mark.parametrize("name", FORMS)
def test_the_gradient_in_the_cost(name):
  with jax.enable_x64(True):

    def loss(cost):
      return objective.loss(
        costs_of(name), 0.7, jnp.stack([cost]), jnp.array([0.4])
      )

    slope = (loss(120.0 + 1e-5) - loss(120.0 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(loss)(120.0), slope, rtol=1e-7)


def test_any_number_of_costs_at_once():
  """All factors multiply, all penalties add up."""
  names = tuple(FORMS)
  values = np.array(
    [[60.0 + 7 * i for i in range(6)], [90.0 - i for i in range(6)]]
  )
  multipliers = np.linspace(0.1, 0.6, 6)
  accuracy = np.array([0.8, 0.3])
  want_reward, want_loss = accuracy.copy(), accuracy.copy()
  penalties = np.zeros(2)
  for i, name in enumerate(names):
    _, factor, penalty = FORMS[name]
    for n in range(2):
      want_reward[n] *= factor(values[n, i], multipliers[i])
      want_loss[n] = want_reward[n]
      penalties[n] += penalty(values[n, i], multipliers[i])
  with jax.enable_x64(True):
    costs, m = costs_of(*names), jnp.asarray(multipliers)
    rewards = objective.reward(
      costs, jnp.asarray(accuracy), jnp.asarray(values), m
    )
    np.testing.assert_allclose(rewards, want_reward - penalties, rtol=1e-13)
    for n in range(2):
      loss = objective.loss(
        costs, jnp.float64(accuracy[n]), jnp.asarray(values[n]), m
      )
      np.testing.assert_allclose(loss, want_loss[n] + penalties[n], rtol=1e-13)


def test_without_costs_the_quality_is_left():
  none = jnp.zeros(0)
  assert objective.loss((), jnp.float32(2.0), none, none) == 2.0
  values = jnp.zeros((2, 0))
  rewards = objective.reward((), jnp.array([0.5, 1.0]), values, none)
  np.testing.assert_array_equal(rewards, [0.5, 1.0])
  assert objective.next_multipliers((), none, []).shape == (0,)


def test_the_ratio_of_logarithms_depends_on_the_unit():
  milliseconds = Log(1.0, 1.0, 80.0).factor(40.0)
  microseconds = Log(1.0, 1.0, 80_000.0).factor(40_000.0)
  assert milliseconds == pytest.approx(math.log(40) / math.log(80), rel=1e-6)
  assert abs(milliseconds - microseconds) > 0.05


def test_costs_of_counts_keep_their_precision_in_float32():
  factor = Log(0.2, 0.3, 320_427_584.0).factor(jnp.float32(320_427_584.0))
  assert factor == pytest.approx(0.2, rel=1e-6)


def test_only_targets_move_their_multipliers():
  names = tuple(FORMS)
  found = objective.next_multipliers(
    costs_of(*names), jnp.full(6, 0.7), jnp.full(6, 120.0)
  )
  want = [0.7, 0.7, 0.7, 0.7, 0.705, 0.705]
  np.testing.assert_allclose(found, want, rtol=1e-6)
  assert found.dtype == jnp.float32


@pytest.mark.parametrize("form, end", [(AtMost, 0.0), (Exactly, -0.08)])
def test_only_exactly_may_reward_what_is_dearer(form, end):
  goal = form(target=80.0, rate=0.1)
  multiplier, seen = jnp.float32(0.12), []
  for _ in range(4):
    multiplier = goal.next_multiplier(multiplier, 40.0)
    seen.append(float(multiplier))
  rest = [0.0 if form is AtMost else -0.03, end]
  np.testing.assert_allclose(seen, [0.07, 0.02, *rest], atol=1e-6)
  assert goal.next_multiplier(0.5, 120.0) == pytest.approx(0.55)


def test_what_a_target_allows():
  assert (AtMost(80.0, 0.1).low, AtMost(80.0, 0.1).high) == (-math.inf, 80.0)
  goal = Exactly(80.0, 0.1)
  assert (goal.low, goal.high) == pytest.approx((78.4, 81.6))


def test_a_target_is_reached_where_linear_weights_miss_it():
  """Two candidates: cross-entropy prefers the dear one, the target wins."""
  costs, losses = jnp.array([9.0, 3.0]), jnp.array([0.0, 0.5])
  goal = (Cost("c", None, AtMost(target=5.0, rate=0.2)),)

  def loss(arch, multipliers):
    probs = jax.nn.softmax(arch)
    return objective.loss(goal, probs @ losses, [probs @ costs], multipliers)

  def step(carry, _):
    arch, multipliers = carry
    arch = arch - 0.5 * jax.grad(loss)(arch, multipliers)
    derived = costs[jnp.argmax(arch)]
    multipliers = objective.next_multipliers(goal, multipliers, [derived])
    return (arch, multipliers), derived

  start = (jnp.array([2.0, 0.0]), jnp.zeros(1))
  (arch, multipliers), derived = jax.lax.scan(step, start, length=200)
  assert derived[0] == 9.0
  assert costs[jnp.argmax(arch)] == 3.0
  # Once met, the multiplier no longer rises.
  assert multipliers[0] < 10.0


def test_a_step_by_gradient_needs_tables():
  costs = [objective.Cost("watts", None, objective.Linear(1.0, 1.0))]
  valid = jnp.ones((1, 2), bool)
  with pytest.raises(ValueError, match=r"'watts' has no table.*REINFORCE"):
    objective.derived_costs(costs, valid, jnp.zeros((1, 2)))


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: Linear(0.1, 0.0), "reference = 0.0: expected a number above 0"),
    (lambda: Linear(0.1, math.inf), "reference = inf: expected a number"),
    (lambda: Log(0.2, 0.3, 1.0), "reference = 1.0: .* above 1"),
    (lambda: Log(0.2, 0.3, 0.08), "reference = 0.08: .* above 1"),
    (lambda: Log(0.2, 0.0, 80.0), "exponent = 0.0: expected a number above 0"),
    (lambda: AtMost(-1.0, 0.1), "target = -1.0: expected a number above 0"),
    (lambda: Exactly(math.nan, 0.1), "target = nan: expected a number"),
    (lambda: AtMost(80.0, 0.0), "rate = 0.0: expected a number above 0"),
    (lambda: Multiplicative(80.0, 0.0), "exponent = 0.0: expected a number"),
    (lambda: Absolute(0.0, 1.0), "target = 0.0: expected a number above 0"),
  ],
)
def test_settings_without_a_meaning_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()
