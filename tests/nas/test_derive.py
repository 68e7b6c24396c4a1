"""Deriving against brute force: argmax, and the best path within a limit."""

import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proxyless_jax.hardware import CostTable, cost_table
from proxyless_jax.nas.derive import Constraint, derive
from proxyless_jax.space import mobile_space


def _table(costs, counts=None, fixed=0.0, combine="sum"):
  costs = np.array(costs, float)
  counts = [costs.shape[1]] * len(costs) if counts is None else counts
  for row, count in zip(costs, counts):
    row[count:] = 0.0
  names = tuple(f"edge{e}" for e in range(len(costs)))
  ops = tuple(tuple(f"op{j}" for j in range(count)) for count in counts)
  return CostTable(costs, fixed, "ms", "made up", names, ops, (), combine)


def _derive(arch, table, limit=None):
  """With no limit, or one from above on one cost."""
  constraints = [] if limit is None else [Constraint(table, -np.inf, limit)]
  return derive(arch, table.valid, constraints)


def _cost(table, path):
  return table.fixed + table.costs[range(len(path)), path].sum()


def _enumerated(arch, table):
  """All paths, their costs and their scores."""
  paths = np.array(
    list(itertools.product(*(range(len(ops)) for ops in table.ops)))
  )
  rows = np.arange(paths.shape[1])
  costs = table.fixed + table.costs[rows, paths].sum(axis=1)
  return paths, costs, arch[rows, paths].sum(axis=1)


def _random(seed, integers):
  """A small space; with integers, costs and scores tie often."""
  random = np.random.default_rng(seed)
  edges, width = random.integers(1, 6), random.integers(1, 5)
  counts = random.integers(1, width + 1, size=edges)
  if integers:
    costs = random.integers(0, 4, size=(edges, width))
    arch = random.integers(-2, 3, size=(edges, width)).astype(float)
    fixed = float(random.integers(0, 3))
  else:
    costs = random.uniform(0.1, 9.0, size=(edges, width))
    arch = random.normal(size=(edges, width))
    fixed = random.uniform(0.0, 9.0)
  return arch, _table(costs, counts, fixed)


def test_without_a_limit_it_is_argmax():
  arch, table = _random(3, integers=False)
  path = _derive(arch, table)
  masked = np.where(table.valid, arch, -np.inf)
  np.testing.assert_array_equal(path, masked.argmax(axis=1))
  assert path.dtype == np.int64
  np.testing.assert_array_equal(path, _derive(arch, table, np.inf))
  np.testing.assert_array_equal(path, _derive(arch, table, _cost(table, path)))


def test_padding_is_neverderived():
  table = _table([[1.0, 2.0, 0.0], [5.0, 0.0, 0.0]], counts=[2, 1])
  arch = np.array([[-9.0, -5.0, 7.0], [-9.0, 7.0, 7.0]])
  np.testing.assert_array_equal(_derive(arch, table), [1, 0])
  np.testing.assert_array_equal(_derive(arch, table, 6.0), [0, 0])


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize("seed", range(60))
def test_with_a_limit_it_is_the_best_of_enumeration(seed, integers):
  arch, table = _random(seed, integers)
  _, costs, scores = _enumerated(arch, table)
  for limit in np.unique(np.quantile(costs, np.linspace(0.0, 1.0, 12))):
    path = _derive(arch, table, limit)
    assert table.valid[range(len(path)), path].all()
    assert _cost(table, path) <= limit * (1 + 1e-12)
    best = scores[costs <= limit * (1 + 1e-12)].max()
    score = arch[range(len(path)), path].sum()
    assert score == pytest.approx(best, abs=1e-12)


def test_probabilities_and_parameters_rank_paths_alike():
  arch, table = _random(8, integers=False)
  shift = np.arange(len(arch))[:, None] * 3.0
  for limit in np.linspace(table.min_cost, table.max_cost, 5):
    path = _derive(arch, table, limit)
    np.testing.assert_array_equal(path, _derive(arch + shift, table, limit))


@pytest.mark.parametrize("fixed", [0.0, 0.1, 1e9])
@pytest.mark.parametrize("seed", range(10))
def test_the_limit_may_be_just_the_cheapest(seed, fixed):
  """Whatever the order in which the limit was summed up."""
  random = np.random.default_rng(seed)
  costs = random.uniform(1e-3, 1.0, size=(21, 7))
  table = _table(costs, fixed=fixed)
  cheapest = costs.argmin(axis=1)
  picked = costs.min(axis=1)
  arch = random.normal(size=costs.shape)
  sums = {table.min_cost, fixed + sum(picked), sum(picked[::-1], fixed)}
  for limit in sums:
    path = _derive(arch, table, limit)
    assert _cost(table, path) == pytest.approx(table.min_cost, rel=2e-12)
    if fixed < 1.0:
      np.testing.assert_array_equal(path, cheapest)


def test_a_limit_below_the_cheapest_gives_the_cheapest():
  table = _table([[2.0, 4.0], [3.0, 9.0]], fixed=1.0)
  for limit in (5.999, 0.1):
    path = _derive(np.array([[0.0, 3.0], [0.0, 3.0]]), table, limit)
    np.testing.assert_array_equal(path, [0, 0])


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (2,), (2, 2, 1)])
def test_parameters_of_another_space_are_refused(shape):
  table = _table([[2.0, 4.0], [3.0, 9.0]])
  with pytest.raises(ValueError, match=r"expected \(2, 2\)"):
    _derive(np.zeros(shape), table)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_search_that_diverged_is_refused(value):
  table = _table([[2.0, 0.0], [3.0, 9.0]], counts=[1, 2])
  arch = np.array([[0.0, value], [0.0, 0.0]])
  np.testing.assert_array_equal(_derive(arch, table), [0, 0])
  arch[1, 1] = value
  with pytest.raises(ValueError, match=r"not finite at edges \[1\]"):
    _derive(arch, table)


def test_arrays_of_jax_are_derived_in_float64():
  arch, table = _random(5, integers=False)
  limit = float(jnp.float32((table.min_cost + table.max_cost) / 2))
  with jax.enable_x64(False):
    path = _derive(jnp.asarray(arch), table, jnp.float32(limit))
  expected = _derive(np.float32(arch), table, limit)
  np.testing.assert_array_equal(path, expected)


@pytest.mark.parametrize("edges", [21, 60, 648])
def test_large_spaces_are_derived_in_time(edges):
  random = np.random.default_rng(edges)
  costs = random.integers(1_000_000, 50_000_000, size=(edges, 7))
  table = _table(costs, fixed=1e7)
  arch = random.normal(size=costs.shape)
  started = time.perf_counter()
  for share in (0.02, 0.1, 0.2, 0.3, 0.4):
    limit = table.min_cost + share * (table.max_cost - table.min_cost)
    assert _cost(table, _derive(arch, table, limit)) <= limit
  assert time.perf_counter() - started < 5.0


def test_the_published_space_at_half_its_cost():
  space = mobile_space()
  table = cost_table("macs", space)
  arch = np.random.default_rng(0).normal(size=table.costs.shape)
  limit = (table.min_cost + table.exact(space.choose(_derive(arch, table)))) / 2
  network = space.choose(_derive(arch, table, limit))
  assert table.min_cost < table.exact(network) <= limit
  # The best within the limit leaves no room for a likelier choice on one edge.
  path = _derive(arch, table, limit)
  for e, (edge, choice) in enumerate(zip(space.edges, path)):
    for j in range(len(edge.ops)):
      other = path.copy()
      other[e] = j
      likelier = arch[e, j] > arch[e, choice]
      assert not likelier or _cost(table, other) > limit


COMBINATIONS = list(itertools.product(["sum", "max"], repeat=2))


def _tables(seed, combine=("sum", "sum")):
  """Parameters and tables of several costs on one small space."""
  random = np.random.default_rng(seed)
  edges, width = random.integers(2, 6), random.integers(2, 5)
  counts = random.integers(1, width + 1, size=edges)
  tables = []
  for kind in combine:
    # Some costs tie, as those of blocks that are alike do.
    costs = random.uniform(0.1, 9.0, size=(edges, width)).round(seed % 3)
    fixed = random.uniform(0.0, 9.0)
    tables.append(_table(costs, counts, fixed, kind))
  return random.normal(size=(edges, width)).round(1 + seed % 4), tables


def _costs(table, paths):
  parts = table.costs[np.arange(paths.shape[1]), paths]
  if table.combine == "max":
    return np.maximum(parts.max(axis=1), table.fixed)
  return table.fixed + parts.sum(axis=1)


def _limits(tables, highs):
  return [Constraint(t, -np.inf, high) for t, high in zip(tables, highs)]


def _check_against_all(arch, constraints):
  """The best within all limits, or else the one that misses them by least."""
  paths, _, scores = _enumerated(arch, constraints[0].table)
  over = np.full(len(paths), -np.inf)
  for table, low, high in constraints:
    costs = _costs(table, paths)
    over = np.maximum(over, (costs - high) / high)
    if low > 0:
      over = np.maximum(over, (low - costs) / low)
  path = derive(arch, constraints[0].table.valid, constraints)
  at = (paths == path).all(axis=1).nonzero()[0][0]
  if over.min() <= 1e-12:
    assert over[at] <= 1e-11
    best = scores[over <= 1e-12].max()
    assert scores[at] == pytest.approx(best, abs=1e-11)
    return True
  assert over[at] <= over.min() + 1.1e-5
  return False


@pytest.mark.parametrize("combine", COMBINATIONS)
@pytest.mark.parametrize("seed", range(6))
def test_several_limits_against_enumeration(seed, combine):
  arch, tables = _tables(seed, combine)
  random = np.random.default_rng(seed)
  for _ in range(5):
    highs = [random.uniform(0.9 * t.min_cost, t.max_cost) for t in tables]
    _check_against_all(arch, _limits(tables, highs))
    path = np.array([[random.integers(len(ops)) for ops in tables[0].ops]])
    highs = [float(_costs(table, path)[0]) for table in tables]
    assert _check_against_all(arch, _limits(tables, highs))


@pytest.mark.parametrize("combine", COMBINATIONS)
@pytest.mark.parametrize("seed", range(6))
def test_bands_against_enumeration(seed, combine):
  arch, tables = _tables(seed, combine)
  random = np.random.default_rng(seed)
  for width in (1e-9, 0.02, 0.2):
    for _ in range(3):
      band = random.uniform(tables[0].min_cost, tables[0].max_cost)
      high = random.uniform(tables[1].min_cost, tables[1].max_cost)
      constraints = [
        Constraint(tables[0], band * (1 - width), band * (1 + width)),
        Constraint(tables[1], -np.inf, high),
      ]
      _check_against_all(arch, constraints[:1])
      _check_against_all(arch, constraints)
      constraints[1] = constraints[1]._replace(low=high * (1 - width))
      _check_against_all(arch, constraints)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["limits", "bands", "both"])
def test_two_real_costs_are_derived_in_time(kind, tied):
  """Also where all paths are alike, as before the first step of a search."""
  random = np.random.default_rng(0)
  one, two = (_table(random.uniform(1, 9, size=(21, 7))) for _ in range(2))
  arch = np.zeros((21, 7)) if tied else random.normal(size=(21, 7))
  slowest = 0.0
  for share in (0.35, 0.4, 0.5):
    goals = [t.min_cost + share * (t.max_cost - t.min_cost) for t in (one, two)]
    lows = [0.98 * g if kind != "limits" else -np.inf for g in goals]
    lows[1] = -np.inf if kind == "both" else lows[1]
    constraints = [
      Constraint(table, low, goal * (1.02 if low > 0 else 1.0))
      for table, low, goal in zip((one, two), lows, goals)
    ]
    started = time.perf_counter()
    path = derive(arch, one.valid, constraints)
    slowest = max(slowest, time.perf_counter() - started)
    assert max(c.excess(path) for c in constraints) <= 1e-12
  assert slowest < 10.0


@pytest.mark.parametrize("low", [-np.inf, 0.98])
def test_the_largest_space_with_real_costs(low):
  random = np.random.default_rng(1)
  table = _table(random.uniform(1, 9, size=(648, 7)))
  arch = random.normal(size=(648, 7))
  started = time.perf_counter()
  for share in (0.05, 0.2, 0.4):
    goal = table.min_cost + share * (table.max_cost - table.min_cost)
    constraint = Constraint(table, low * goal, goal)
    path = derive(arch, table.valid, [constraint])
    assert constraint.excess(path) <= 1e-12
  assert time.perf_counter() - started < 20.0
