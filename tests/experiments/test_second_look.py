"""Second look: draws near a target, and the additive model, by enumeration."""

import itertools

import numpy as np
import pytest

from experiments.macro.second_look import draw_near, fit_additive
from proxyless_jax.hardware import cost_table
from proxyless_jax.nas.derive import Constraint, derive
from proxyless_jax.nas.gates import valid_candidates
from tests.spaces import small_space


@pytest.fixture(scope="module")
def space():
  return small_space(
    image_size=16,
    channels=3,
    classes=4,
    widths=(8, 16),
    depths=(2, 2),
    strides=(1, 2),
    candidates=("mbconv3_k3", "mbconv6_k5", "zero"),
    head_width=16,
  )


def every_path(mask):
  counts = mask.sum(axis=1)
  return np.array(list(itertools.product(*map(range, counts))))


def costs_of(table, paths):
  picked = table.costs[np.arange(paths.shape[1]), paths]
  return table.fixed + picked.sum(axis=1)


def test_draws_are_different_and_within_the_limits(space):
  mask, table = valid_candidates(space), cost_table("macs", space)
  probs = mask / mask.sum(axis=1, keepdims=True)
  high = 0.6 * table.max_cost
  paths = draw_near(
    np.random.default_rng(0), probs, table, 0.5 * high, high, count=12
  )
  costs = costs_of(table, paths)
  assert len(np.unique(paths, axis=0)) == len(paths) == 12
  assert np.all((costs >= 0.5 * high) & (costs <= high))
  assert mask[np.arange(len(mask)), paths].all()


def test_draws_give_all_there_are_where_fewer_exist(space):
  mask, table = valid_candidates(space), cost_table("macs", space)
  probs = mask / mask.sum(axis=1, keepdims=True)
  paths = every_path(mask)
  costs = np.sort(costs_of(table, paths))
  low, high = costs[-5], costs[-1]
  found = draw_near(np.random.default_rng(0), probs, table, low, high, count=50)
  assert len(found) == np.sum(costs >= low)


def test_a_candidate_without_probability_is_not_drawn(space):
  mask, table = valid_candidates(space), cost_table("macs", space)
  probs = mask / mask.sum(axis=1, keepdims=True)
  probs[0] = [1.0, 0.0, 0.0]
  paths = draw_near(
    np.random.default_rng(1), probs, table, 0.0, table.max_cost, count=20
  )
  assert np.all(paths[:, 0] == 0)


def test_limits_that_no_path_meets_are_refused(space):
  mask, table = valid_candidates(space), cost_table("macs", space)
  probs = mask / mask.sum(axis=1, keepdims=True)
  rng = np.random.default_rng(0)
  with pytest.raises(ValueError, match=r"no path of .* costs .*the space can"):
    draw_near(rng, probs, table, 0.0, table.min_cost / 2, count=4)


def test_a_table_of_maxima_is_refused(space):
  mask, table = valid_candidates(space), cost_table("memory", space)
  probs = mask / mask.sum(axis=1, keepdims=True)
  rng = np.random.default_rng(0)
  with pytest.raises(ValueError, match="adds up over the edges"):
    draw_near(rng, probs, table, 0.0, 1e9, count=4)


def test_the_model_finds_the_best_path_of_an_additive_accuracy(space):
  mask, table = valid_candidates(space), cost_table("macs", space)
  rng = np.random.default_rng(0)
  worth = np.where(mask, rng.normal(size=mask.shape), 0.0)
  paths = every_path(mask)
  accuracy = 50.0 + worth[np.arange(len(mask)), paths].sum(axis=1)
  seen = rng.choice(len(paths), 25, replace=False)
  values = fit_additive(paths[seen], accuracy[seen], mask, ridge=1e-6)
  differences = (values - worth)[mask.nonzero()]
  rows = mask.nonzero()[0]
  for edge in range(len(mask)):  # Each edge up to a constant.
    assert np.ptp(differences[rows == edge]) < 1e-4
  high = 0.5 * table.max_cost
  best = derive(values, mask, [Constraint(table, -np.inf, high)])
  allowed = costs_of(table, paths) <= high
  np.testing.assert_array_equal(
    best, paths[allowed][accuracy[allowed].argmax()]
  )


def test_ridge_regression_solves_its_normal_equations(space):
  mask = valid_candidates(space)
  rng = np.random.default_rng(3)
  paths = every_path(mask)[rng.choice(mask.sum(axis=1).prod(), 30, False)]
  accuracy, ridge = rng.normal(size=30), 2.0
  values = fit_additive(paths, accuracy, mask, ridge)

  def loss(values):
    model = values[np.arange(len(mask)), paths].sum(axis=1)
    residuals = accuracy - model
    return np.sum((residuals - residuals.mean()) ** 2) + ridge * np.sum(
      values**2
    )

  for _ in range(20):  # The best constant is inside: a minimum all around.
    step = np.where(mask, 1e-3 * rng.normal(size=mask.shape), 0.0)
    assert loss(values) < loss(values + step)
