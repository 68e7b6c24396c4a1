"""The network of least cost at an equal quality, by an additive model.

    min_path cost(path)   subject to   sum_e v[e, path_e] >= level

A search for a target is the other way round, max quality within a cost, and
`derive` solves it exactly. The best quality within a cost never falls as the
cost grows. So the costs are halved until no network of the level is cheaper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from proxyless_jax.hardware import CostTable
from proxyless_jax.nas.derive import Constraint, derive

# Relative; costs that differ by less count as the same.
CLOSE = 1e-9


def costs_of(table: CostTable, paths: np.ndarray) -> np.ndarray:
  """Costs f64[n] of paths i[n, e], in the table's unit."""
  parts = table.costs[np.arange(len(table.costs)), paths]
  if table.combine == "max":
    return np.maximum(parts.max(axis=1), table.fixed)
  return parts.sum(axis=1) + table.fixed


def quality(v: np.ndarray, path: np.ndarray) -> float:
  """What an additive model f[e, k] gives to a path i[e], its constant aside."""
  return float(v[np.arange(len(path)), path].sum())


def cheapest(
  v: np.ndarray,
  valid: np.ndarray,
  level: float,
  tables: Sequence[CostTable],
) -> np.ndarray:
  """The cheapest path whose quality reaches a level.

  Args:
    v: f[e, k], additive model of the quality.
    valid: bool[e, k], which candidates exist.
    level: least quality.
    tables: the cost to minimise; then those that decide between networks of the
      same cost, the most important first. Of networks that all costs find
      equal, the one of the highest quality is taken.

  Returns:
    i64[e].

  Raises:
    ValueError: no path reaches the level.
  """
  # Sums in another order than the level's may differ in the last digits.
  level -= CLOSE * max(1.0, abs(level))
  limits: list[Constraint] = []
  path = derive(v, valid)
  if quality(v, path) < level:
    raise ValueError(
      f"level = {level:.6g}: expected at most {quality(v, path):.6g}, the "
      "quality of the best path"
    )
  for table in tables:
    path = _cheapest_within(v, valid, level, table, limits, path)
    highest = costs_of(table, path[None])[0] * (1.0 + CLOSE)
    limits = [*limits, Constraint(table, -math.inf, highest)]
  return derive(v, valid, limits)


def _cheapest_within(v, valid, level, table, limits, path) -> np.ndarray:
  """The path of least cost on one table; `path` meets level and limits."""
  lowest, highest = table.min_cost, costs_of(table, path[None])[0]
  while highest - lowest > CLOSE * highest:
    # No network lies between a cost and what is just below it.
    middle = (lowest + highest) / 2
    own = Constraint(table, -math.inf, middle)
    found = derive(v, valid, [*limits, own])
    meets = all(limit.excess(found) <= CLOSE for limit in [*limits, own])
    if meets and quality(v, found) >= level:
      path, highest = found, costs_of(table, found[None])[0]
    else:
      lowest = middle
  return path
