"""Each form of the objective against plain Python, and its gradient."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proxyless_jax.search.objective import (
  LinearCost,
  LogCost,
  NoCost,
  TargetCost,
)

POINTS = [(2.5, 60.0, 0.0), (0.7, 120.0, 0.4), (1.0, 80.0, 1.5)]
FORMS = {
  "none": (NoCost(), lambda ce, e, m: ce, lambda ce, e, m: 0.0),
  "linear": (
    LinearCost(weight=0.3, reference=80.0),
    lambda ce, e, m: ce + 0.3 * (e - 80.0) / 80.0,
    lambda ce, e, m: 0.3 / 80.0,
  ),
  "log": (
    LogCost(scale=0.2, exponent=0.3, reference=80.0),
    lambda ce, e, m: 0.2 * ce * (math.log(e) / math.log(80.0)) ** 0.3,
    lambda ce, e, m: (
      0.2 * ce * 0.3 * math.log(e) ** -0.7 / math.log(80.0) ** 0.3 / e
    ),
  ),
  "target": (
    TargetCost(target=80.0, rate=0.01),
    lambda ce, e, m: ce + m * (e / 80.0 - 1.0),
    lambda ce, e, m: m / 80.0,
  ),
}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("name", FORMS)
def test_values_and_gradients(name, point):
  objective, value, slope = FORMS[name]
  with jax.enable_x64(True):
    arrays = [jnp.float64(x) for x in point]
    result, gradient = jax.value_and_grad(objective.loss, argnums=1)(*arrays)
    np.testing.assert_allclose(result, value(*point), rtol=1e-14)
    np.testing.assert_allclose(gradient, slope(*point), rtol=1e-13)


@pytest.mark.parametrize("name", FORMS)
def test_objectives_are_static_arguments_in_float32(name):
  objective = FORMS[name][0]
  assert hash(objective) == hash(FORMS[name][0])
  jitted = jax.jit(lambda o, *a: o.loss(*a), static_argnums=0)
  arrays = [jnp.float32(x) for x in POINTS[1]]
  result = jitted(objective, *arrays)
  assert (result.shape, result.dtype) == ((), jnp.float32)
  np.testing.assert_allclose(result, FORMS[name][1](*POINTS[1]), rtol=1e-6)


def test_at_the_reference_only_the_cross_entropy_is_left():
  assert LinearCost(0.3, 80.0).loss(2.0, 80.0, 0.0) == 2.0
  assert LogCost(0.2, 0.3, 80.0).loss(2.0, 80.0, 0.0) == pytest.approx(0.4)
  assert TargetCost(80.0, 0.1).loss(2.0, 80.0, 9.0) == 2.0


def test_the_ratio_of_logarithms_depends_on_the_unit():
  milliseconds = LogCost(1.0, 1.0, 80.0).loss(1.0, 40.0, 0.0)
  microseconds = LogCost(1.0, 1.0, 80_000.0).loss(1.0, 40_000.0, 0.0)
  assert milliseconds == pytest.approx(math.log(40) / math.log(80), rel=1e-6)
  assert abs(milliseconds - microseconds) > 0.05


def test_costs_of_counts_keep_their_precision_in_float32():
  objective = LogCost(0.2, 0.3, 320_427_584.0)
  result = objective.loss(jnp.float32(2.0), jnp.float32(320_427_584.0), 0.0)
  assert result == pytest.approx(0.4, rel=1e-6)


@pytest.mark.parametrize("name", ["none", "linear", "log"])
def test_only_a_target_moves_the_multiplier(name):
  assert FORMS[name][0].next_multiplier(0.7, 1e9) == 0.7


def test_the_multiplier_rises_above_the_target_and_falls_below():
  objective = TargetCost(target=80.0, rate=0.1)
  assert objective.next_multiplier(0.5, 120.0) == pytest.approx(0.55)
  assert objective.next_multiplier(0.5, 40.0) == pytest.approx(0.45)
  assert objective.next_multiplier(0.5, 80.0) == pytest.approx(0.5)


def test_the_multiplier_falls_to_zero_and_stays():
  objective = TargetCost(target=80.0, rate=0.1)
  multiplier, seen = jnp.float32(0.12), []
  for _ in range(4):
    multiplier = objective.next_multiplier(multiplier, 40.0)
    seen.append(float(multiplier))
  np.testing.assert_allclose(seen, [0.07, 0.02, 0.0, 0.0], atol=1e-6)
  assert multiplier.dtype == jnp.float32


def test_a_target_is_reached_where_linear_weights_miss_it():
  """Two candidates: cross-entropy prefers the dear one, the target wins."""
  objective = TargetCost(target=5.0, rate=0.2)
  costs, losses = jnp.array([9.0, 3.0]), jnp.array([0.0, 0.5])

  def loss(arch, multiplier):
    probs = jax.nn.softmax(arch)
    return objective.loss(probs @ losses, probs @ costs, multiplier)

  def step(carry, _):
    arch, multiplier = carry
    arch = arch - 0.5 * jax.grad(loss)(arch, multiplier)
    derived = costs[jnp.argmax(arch)]
    multiplier = objective.next_multiplier(multiplier, derived)
    return (arch, multiplier), derived

  start = (jnp.array([2.0, 0.0]), jnp.float32(0.0))
  (arch, multiplier), derived = jax.lax.scan(step, start, length=200)
  assert derived[0] == 9.0
  assert costs[jnp.argmax(arch)] == 3.0
  # Once met, the multiplier no longer rises.
  assert multiplier < 10.0


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (
      lambda: LinearCost(0.1, 0.0),
      "reference = 0.0: expected a number above 0",
    ),
    (lambda: LinearCost(0.1, math.inf), "reference = inf: expected a number"),
    (lambda: LogCost(0.2, 0.3, 1.0), "reference = 1.0: .* above 1"),
    (lambda: LogCost(0.2, 0.3, 0.08), "reference = 0.08: .* above 1"),
    (lambda: TargetCost(-1.0, 0.1), "target = -1.0: expected a number above 0"),
    (lambda: TargetCost(math.nan, 0.1), "target = nan: expected a number"),
    (lambda: TargetCost(80.0, 0.0), "rate = 0.0: expected a number above 0"),
  ],
)
def test_settings_without_a_meaning_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()
