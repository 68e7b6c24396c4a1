"""From architecture parameters to one architecture.

    max_path  sum_e log p[e, path_e]   subject to   low <= cost(path) <= high

for each of any number of costs. Without one, or where argmax keeps all, that
is argmax. Costs that add up make it a multiple-choice knapsack, which
`knapsack` solves; one whose largest part counts leaves out the candidates above
`high`, and asks for one at `low` or above.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from proxyless_jax.hardware import CostTable
from proxyless_jax.nas.knapsack import NARROW, WIDEST, best_path

# Sums in another order than the limit's may differ in the last digits.
ROUNDING = 1e-12
# How closely the nearest path is looked for, relative to the limits.
NEAREST = 1e-5
TINY = 1e-300


class Constraint(NamedTuple):
  """Limits on a cost, in the table's unit; infinite where there is none."""

  table: CostTable
  low: float
  high: float

  def excess(self, path: np.ndarray) -> float:
    """Relative excess of a path over a limit; 0 or less where it meets both."""
    parts = self.table.costs[np.arange(len(path)), path]
    if self.table.combine == "max":
      cost = float(np.max(parts, initial=self.table.fixed))
    else:
      cost = self.table.fixed + float(parts.sum())
    over = [(cost - self.high, self.high), (self.low - cost, self.low)]
    return max(
      (
        by / max(abs(limit), TINY) for by, limit in over if math.isfinite(limit)
      ),
      default=-math.inf,
    )

  def relaxed(self, by: float) -> Constraint:
    """The constraint with both limits moved outwards by a fraction."""
    low = self.low - by * abs(self.low) if self.low > -math.inf else self.low
    high = (
      self.high + by * abs(self.high) if self.high < math.inf else self.high
    )
    return self._replace(low=low, high=high)


def derive(
  arch: np.ndarray, valid: np.ndarray, constraints: Sequence[Constraint] = ()
) -> np.ndarray:
  """The most probable path that meets all constraints.

  Args:
    arch: f[e, k], architecture parameters.
    valid: bool[e, k], which candidates exist.
    constraints: constraints on the cost of the path.

  Returns:
    i64[e]. Where no path keeps all constraints, the one that misses them by
    least: by the smallest part of the limit that it misses by most.

  Raises:
    ValueError: `arch` does not fit the valid or is not finite.
  """
  arch = np.asarray(arch, np.float64)
  _check_arch(arch, valid)
  logits = np.where(valid, arch, -np.inf)
  index = logits.argmax(axis=1)
  if misses(constraints, index) <= ROUNDING:
    return index
  path = _within(logits, valid, constraints)
  return _nearest(logits, valid, constraints) if path is None else path


def _moved(limit: float, by: float) -> float:
  """A limit moved by a fraction of itself; an infinite one stays."""
  return limit + by * abs(limit) if math.isfinite(limit) else limit


def misses(constraints: Sequence[Constraint], path: np.ndarray) -> float:
  """The largest relative excess of a path over any limit."""
  return max((c.excess(path) for c in constraints), default=-math.inf)


def _check_arch(arch: np.ndarray, valid: np.ndarray) -> None:
  if arch.shape != valid.shape:
    raise ValueError(
      f"arch has the shape {arch.shape}: expected {valid.shape}, as of valid, "
      "[edge, candidate]"
    )
  if not np.isfinite(arch[valid]).all():
    edges = np.nonzero((valid & ~np.isfinite(arch)).any(axis=1))[0].tolist()
    raise ValueError(
      f"arch is not finite at edges {edges}: expected finite values; the "
      "search has diverged: lower its learning rates"
    )


def _within(logits, valid, constraints, widest=WIDEST) -> np.ndarray | None:
  """The most probable path that meets all constraints; None without any."""
  costs, low, high = [], [], []
  for table, lowest, highest in constraints:
    lowest, highest = _moved(lowest, -ROUNDING), _moved(highest, ROUNDING)
    if table.combine == "sum":
      costs.append(table.costs)
      low.append(lowest - table.fixed)
      high.append(highest - table.fixed)
      continue
    if table.fixed > highest:
      return None
    logits = np.where(table.costs <= highest, logits, -np.inf)
    if table.fixed < lowest:
      costs.append((table.costs >= lowest).astype(float))
      low.append(1.0)
      high.append(math.inf)
  shape = (len(costs), *valid.shape)
  # Softmax shifts a row by a constant, which no comparison of paths sees.
  return best_path(
    logits,
    np.array(costs).reshape(shape),
    np.array(low),
    np.array(high),
    widest,
  )


def _nearest(logits, valid, constraints) -> np.ndarray:
  """The path with the smallest relative excess, to within `NEAREST`."""
  # Nobody asked for it, so it takes the narrow search: exact in small spaces.
  by, path = 1e-3, None
  while path is None:
    by *= 2.0
    relaxed = [constraint.relaxed(by) for constraint in constraints]
    path = _within(logits, valid, relaxed, NARROW)
  kept, missed = 0.0, misses(constraints, path)
  while missed - kept > NEAREST:
    middle = (kept + missed) / 2
    relaxed = [constraint.relaxed(middle) for constraint in constraints]
    found = _within(logits, valid, relaxed, NARROW)
    if found is None:
      kept = middle
    else:
      path, missed = found, misses(constraints, found)
  return path
