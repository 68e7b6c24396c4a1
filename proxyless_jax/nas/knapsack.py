"""The best path within limits on several sums: a multiple-choice knapsack.

    max_path  sum_e score[e, path_e]
    subject to  low_i <= sum_e costs[i, e, path_e] <= high_i

Dynamic programming over the edges, which keeps the partial paths that no other
beats in score and in every cost. With real costs, or limits from below, hardly
any beats another, so bounds come first (Pisinger, European Journal of
Operational Research 83, 1995). For any multipliers a, of which a_i > 0 prices
the upper limit of sum i and a_i < 0 the lower one,

    score(path) <= bound - sum_e loss[e, path_e],
    loss[e, j] = max_j' r[e, j'] - r[e, j],  r = score - sum_i a_i costs_i,

and those of the linear relaxation make it tight: a path within a gap of the
bound has no candidate of a larger loss, and most edges are left with one. So
paths of a small gap are searched, then of a larger one, until one is found and
all that could beat it were seen.

The result is exact unless more than `widest` partial paths are left at an edge;
then the best is kept of those whose costs are equal on a grid of as many cells.
Random costs of 648 edges with 7 candidates stay below it.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import scipy.optimize
import scipy.sparse

NARROW, WIDEST = 1 << 12, 1 << 17
# How many of the best partial paths all others are compared with.
ELITE = 64


class _States(NamedTuple):
  """Partial paths: their scores f[n], losses f[n] and costs f[m, n]."""

  score: np.ndarray
  loss: np.ndarray
  cost: np.ndarray

  def pick(self, order: np.ndarray) -> _States:
    return _States(self.score[order], self.loss[order], self.cost[:, order])


@dataclasses.dataclass(frozen=True)
class _Problem:
  """Scores f[e, k], -inf where there is no candidate; costs f[m, e, k]."""

  score: np.ndarray
  costs: np.ndarray
  low: np.ndarray
  high: np.ndarray
  prices: np.ndarray
  loss: np.ndarray
  bound: float

  def value(self, path: np.ndarray) -> float:
    return float(self.score[np.arange(len(path)), path].sum())


def best_path(
  score: np.ndarray,
  costs: np.ndarray,
  low: np.ndarray,
  high: np.ndarray,
  widest: int = WIDEST,
) -> np.ndarray | None:
  """The path of the largest score within all limits; None without any.

  Args:
    score: f[e, k]; -inf where there is no candidate.
    costs: f[m, e, k]; any number where there is none.
    low, high: f[m]; infinite where there is no limit.
    widest: largest number of partial paths that are kept at an edge. The result
      may not be the best one if an edge has more, see the module's docstring.

  Returns:
    i64[e].
  """
  exists = np.isfinite(score)
  if not exists.any(axis=1).all():
    return None
  if not len(costs):
    return score.argmax(axis=1)
  costs = np.where(exists, costs, 0.0)
  prices = _prices(score, costs, low, high)
  if prices is None:
    return None
  problem = _priced(score, costs, low, high, prices)
  return _widening(problem, widest)


def _prices(score, costs, low, high) -> np.ndarray | None:
  """The multipliers f[m] of the linear relaxation; None where it has none."""
  exists = np.isfinite(score)
  edge, _ = exists.nonzero()
  scale = np.maximum(np.abs(costs).max(axis=(1, 2), initial=0.0), 1e-300)
  rows = (costs[:, exists] / scale[:, None]).reshape(-1, len(edge))
  upper, lower = np.isfinite(high), np.isfinite(low)
  sides = np.concatenate([rows[upper], -rows[lower]])
  # Prices need not be exact: the bound is valid for any.
  limits = np.concatenate([high[upper], -low[lower]])
  limits /= np.concatenate([scale[upper], scale[lower]])
  one_each = scipy.sparse.csr_matrix(
    (np.ones(len(edge)), (edge, np.arange(len(edge))))
  )
  solved = scipy.optimize.linprog(
    -score[exists],
    A_ub=scipy.sparse.csr_matrix(sides) if len(sides) else None,
    b_ub=limits + 1e-9 * np.abs(limits) if len(sides) else None,
    A_eq=one_each,
    b_eq=np.ones(len(score)),
    method="highs",
  )
  if solved.status == 2:
    return None
  prices = np.zeros(len(costs))
  if solved.status == 0 and len(sides):
    marginals = -solved.ineqlin.marginals
    count = upper.sum()
    prices[upper] += marginals[:count]
    prices[lower] -= marginals[count:]
  # Rounding must not put a price on a side that has no limit.
  prices = np.clip(
    prices, np.where(lower, -np.inf, 0), np.where(upper, np.inf, 0)
  )
  return prices / scale


def _priced(score, costs, low, high, prices) -> _Problem:
  reduced = score - np.tensordot(prices, costs, axes=1)
  best = reduced.max(axis=1)
  limits = np.where(prices > 0, high, np.where(prices < 0, low, 0.0))
  bound = best.sum() + (prices * limits).sum()
  loss = best[:, None] - reduced
  return _Problem(score, costs, low, high, prices, loss, float(bound))


def _widening(problem: _Problem, widest: int) -> np.ndarray | None:
  """Searches within wider and wider gaps from the bound."""
  finite = np.isfinite(problem.loss)
  second = np.sort(np.where(finite, problem.loss, np.inf), axis=1)[:, 1:2]
  second = np.sort(second[np.isfinite(second)])
  most = problem.loss[finite].max(initial=0.0) * len(problem.loss)
  exact = 1e-13 * (1.0 + np.abs(problem.score[finite]).sum())
  # To begin with, about eight edges have a choice: often that is enough.
  gap = second[min(8, len(second) - 1)] if len(second) else 0.0
  width = NARROW
  while True:
    path, complete = _sweep(problem, gap + exact, width)
    if path is not None:
      break
    if gap == np.inf and (complete or width == widest):
      return None
    if gap == np.inf:
      width = widest
    gap = max(4.0 * gap, 1e-6 * most)
    gap = np.inf if gap >= most else gap
  # Whatever beats the path has a gap below its own.
  while not (complete and problem.bound - problem.value(path) <= gap + exact):
    gap, before = problem.bound - problem.value(path), problem.value(path)
    if gap <= exact:
      break
    found, complete = _sweep(problem, gap + exact, widest)
    if found is None or problem.value(found) <= before:
      break
    path = found
  return path


def _sweep(problem: _Problem, gap: float, width: int):
  """The best path whose losses sum to at most `gap`.

  Returns:
    The path, or None, and whether all such paths were seen.
  """
  keep = np.isfinite(problem.loss) & (problem.loss <= gap)
  spread = _spread(problem, keep)
  # Edges of large differences first: what remains then changes the costs by
  # little, and limits exclude partial paths early.
  order = np.argsort(-spread, kind="stable")
  least, most = _still_to_come(problem, keep, order)
  states = _States(np.zeros(1), np.zeros(1), np.zeros((len(problem.costs), 1)))
  trail, complete = [], True
  for place, e in enumerate(order):
    (candidates,) = keep[e].nonzero()
    states = _extend(problem, states, e, candidates)
    picked = _within(problem, states, gap, least[place], most[place])
    picked = picked[_unbeaten(problem, states.pick(picked))]
    if len(picked) > width:
      picked = picked[_thinned(states.pick(picked), width)]
      complete = False
    if not len(picked):
      return None, complete
    states = states.pick(picked)
    parents, choices = np.divmod(picked, len(candidates))
    trail.append((e, parents, candidates[choices]))
  return _trace(trail, int(np.argmax(states.score))), complete


def _spread(problem: _Problem, keep) -> np.ndarray:
  """By how much an edge's kept candidates differ in cost: f[e]."""
  size = np.abs(problem.costs).max(axis=(1, 2), initial=0.0)[:, None, None]
  costs = problem.costs / np.maximum(size, 1e-300)
  top = np.where(keep, costs, -np.inf).max(axis=2)
  bottom = np.where(keep, costs, np.inf).min(axis=2)
  return (top - bottom).sum(axis=0)


def _still_to_come(problem: _Problem, keep, order):
  """The least and the most that the edges after each position add: f[e, m]."""
  sums = []
  for fill, reduce in ((np.inf, np.min), (-np.inf, np.max)):
    part = reduce(np.where(keep, problem.costs, fill), axis=2)[:, order]
    after = np.cumsum(part[:, ::-1], axis=1)[:, ::-1] - part
    sums.append(after.T)
  return sums


def _extend(problem: _Problem, states: _States, e: int, candidates) -> _States:
  """Every state with every candidate of an edge, candidates fastest."""

  def add(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    both = one[..., :, None] + other[..., None, candidates]
    return both.reshape(*one.shape[:-1], -1)

  return _States(
    add(states.score, problem.score[e]),
    add(states.loss, problem.loss[e]),
    add(states.cost, problem.costs[:, e]),
  )


def _within(problem: _Problem, states: _States, gap, least, most):
  """Which states may still end within all limits, and within the gap."""
  low, high = problem.low[:, None], problem.high[:, None]
  prices = problem.prices[:, None]
  lowest, highest = states.cost + least[:, None], states.cost + most[:, None]
  # Sums in another order than the limits' may differ in the last digits.
  room = 1e-12 * np.maximum(np.abs(lowest), np.abs(highest))
  fits = ((lowest <= high + room) & (highest >= low - room)).all(axis=0)
  # What a priced limit that cannot be reached costs besides.
  with np.errstate(invalid="ignore"):
    unused = np.where(prices > 0, prices * (high - highest), 0.0)
    unused += np.where(prices < 0, prices * (low - lowest), 0.0)
  loss = states.loss + np.maximum(unused, 0.0).sum(axis=0)
  return np.nonzero(fits & (loss <= gap))[0]


def _unbeaten(problem: _Problem, states: _States) -> np.ndarray:
  """Without states that another beats in score and in every cost.

  Where a sum has a limit from below, its costs must be the same.
  """
  if not len(states.score):
    return np.zeros(0, int)
  banded = np.isfinite(problem.low)
  if banded.any() or len(problem.costs) > 1:
    picked = _distinct(states)
    return picked if banded.any() else _not_below_elite(states, picked)
  order = np.lexsort((-states.score, states.cost[0]))
  ahead = np.append(-np.inf, states.score[order][:-1])
  return order[states.score[order] > np.maximum.accumulate(ahead)]


def _distinct(states: _States) -> np.ndarray:
  """The best of states whose costs are the same but for rounding."""
  size = np.abs(states.cost).max(axis=1, initial=0.0)[:, None]
  grid = np.round(states.cost / np.maximum(size, 1e-300) * 1e12)
  return _best_of_each(grid, states)


def _best_of_each(grid, states: _States) -> np.ndarray:
  order = np.lexsort((-states.score, *grid))
  changes = (np.diff(grid[:, order], axis=1) != 0).any(axis=0)
  return order[np.append(True, changes)]


def _not_below_elite(states: _States, picked) -> np.ndarray:
  """Without states that one of the few of the smallest loss beats."""
  states = states.pick(picked)
  elite = states.pick(np.argsort(states.loss, kind="stable")[:ELITE])
  beaten = np.zeros(len(picked), bool)
  for score, cost in zip(elite.score, elite.cost.T):
    no_worse = (cost[:, None] <= states.cost).all(axis=0)
    better = (cost[:, None] < states.cost).any(axis=0) | (score > states.score)
    beaten |= no_worse & better & (score >= states.score)
  return picked[~beaten]


def _thinned(states: _States, width: int) -> np.ndarray:
  """At most `width` states: of those of about the same costs, the best."""
  # So many cells along each cost that the grid has `width` of them.
  count = int(width ** (1.0 / len(states.cost)))
  bottom = states.cost.min(axis=1)[:, None]
  size = np.maximum(states.cost.max(axis=1)[:, None] - bottom, 1e-300)
  grid = np.minimum((states.cost - bottom) / size * count, count - 1)
  return _best_of_each(np.floor(grid), states)


def _trace(trail, at: int) -> np.ndarray:
  path = np.zeros(len(trail), int)
  for e, parents, choices in reversed(trail):
    path[e], at = choices[at], parents[at]
  return path
