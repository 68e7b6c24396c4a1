"""Random paths within targets, and evolution, in spaces that can be listed."""

import itertools

import numpy as np
import pytest

from proxyless_jax.hardware import cost_table
from proxyless_jax.nas.baselines import (
  next_generation,
  paths_within,
  random_path,
  random_paths,
)
from proxyless_jax.nas.derive import Constraint
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


def listed(space):
  """All paths, and what they cost."""
  valid, table = valid_candidates(space), cost_table("macs", space)
  every = itertools.product(*(range(n) for n in valid.sum(axis=1)))
  paths = np.array(list(every))
  costs = table.fixed + table.costs[np.arange(len(valid)), paths].sum(axis=1)
  return valid, table, paths, costs


def test_random_paths_are_uniform_over_those_within_the_target(space):
  valid, table, paths, costs = listed(space)
  target = float(np.median(costs))
  within = {tuple(p) for p in paths[costs <= target]}
  rng = np.random.default_rng(0)
  limits = [Constraint(table, -np.inf, target)]
  count = 100 * len(within)
  drawn = [tuple(random_path(rng, valid, limits)) for _ in range(count)]
  assert set(drawn) == within
  counts = np.array([drawn.count(path) for path in within])
  # Chi-squared, at 0.999 of a normal approximation.
  free = len(within) - 1
  assert np.sum((counts - 100.0) ** 2 / 100.0) < free + 3.3 * (2 * free) ** 0.5


def test_a_target_that_one_path_meets_is_met(space):
  valid, table, paths, costs = listed(space)
  limits = [Constraint(table, -np.inf, float(costs.min()))]
  path = random_path(np.random.default_rng(1), valid, limits)
  np.testing.assert_array_equal(path, paths[costs.argmin()])


def test_different_random_paths_up_to_all_that_there_are(space):
  valid, table, paths, costs = listed(space)
  target = float(np.sort(costs)[6])
  limits = [Constraint(table, -np.inf, target)]
  within = {tuple(path) for path in paths[costs <= target]}
  rng = np.random.default_rng(5)
  some = random_paths(rng, valid, limits, 3, [paths[costs.argmin()]])
  assert len({tuple(path) for path in some} & within) == 3
  others = random_paths(rng, valid, limits, 50, some)
  assert sorted(map(tuple, [*some, *others])) == sorted(within)
  assert random_paths(rng, valid, limits, 5, paths).shape == (0, 4)


def test_paths_within_the_target_are_counted(space, monkeypatch):
  valid, table, _, costs = listed(space)
  for target in np.quantile(costs, [0.1, 0.5, 1.0]):
    limits = [Constraint(table, -np.inf, float(target))]
    count = int(np.sum(costs <= target))
    assert paths_within(valid, limits, 10**6) == count
    assert paths_within(valid, limits, 3) == 3
  monkeypatch.setattr("proxyless_jax.nas.baselines.LISTED", 5)
  assert paths_within(valid, limits, 10**6) == 10**6


def evolved(space, loss_of, target, generations, size=8):
  valid, table, _, _ = listed(space)
  limits = [Constraint(table, -np.inf, target)]
  paths, losses = np.zeros((0, len(valid)), np.int64), np.zeros(0)
  for number in range(generations):
    rng = np.random.default_rng([2, number])
    new = next_generation(rng, paths, losses, valid, limits, size)
    assert all(limits[0].excess(path) <= 1e-12 for path in new)
    paths = np.concatenate([paths, new])
    losses = np.append(losses, [loss_of(path) for path in new])
  return paths, losses


def test_evolution_finds_the_best_path_within_the_target(space):
  _, _, paths, costs = listed(space)
  target = float(np.quantile(costs, 0.6))
  value = np.random.default_rng(3).standard_normal((4, 3))

  def loss_of(path):
    return -value[np.arange(4), path].sum()

  best = min(loss_of(path) for path in paths[costs <= target])
  seen, losses = evolved(space, loss_of, target, generations=3)
  assert losses.min() == pytest.approx(best)
  assert len(np.unique(seen, axis=0)) == len(seen) == 24


def test_evolution_goes_on_where_all_paths_were_seen(space):
  _, _, _, costs = listed(space)
  few = float(np.sort(costs)[4])
  paths, _ = evolved(space, sum, few, generations=2, size=4)
  assert len(np.unique(paths, axis=0)) == 5
