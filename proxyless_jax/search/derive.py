"""From architecture parameters to one architecture.

    max_path  sum_e log p[e, path_e]   subject to   cost(path) <= limit

Without a limit, or where argmax keeps it, that is argmax. Otherwise it is a
multiple-choice knapsack, solved exactly: edge after edge, keep the partial
paths that no other beats in both cost and log-probability.
"""

from __future__ import annotations

import numpy as np

from proxyless_jax.hardware import CostTable


def derive(
  arch: np.ndarray, table: CostTable, limit: float | None = None
) -> np.ndarray:
  """The most probable path that costs at most `limit`.

  Args:
    arch: f[e, k], architecture parameters.
    table: of the space, whose costs and candidates it gives.
    limit: in the table's unit; None for no limit.

  Returns:
    i64[e].

  Raises:
    ValueError: the cheapest path costs more than the limit, or `arch` does not
      fit the table or is not finite.
  """
  arch = np.asarray(arch, np.float64)
  _check_arch(arch, table.mask)
  logits = np.where(table.mask, arch, -np.inf)
  index = logits.argmax(axis=1)
  if limit is None:
    return index
  # The order of a sum must not shut out a path that costs just the limit.
  slack = float(limit) + 1e-12 * abs(float(limit))
  rows = np.arange(len(index))
  if table.fixed + table.costs[rows, index].sum() <= slack:
    return index
  if not table.cheapest <= slack:
    raise ValueError(
      f"limit = {limit:,.6g} {table.unit}: expected at least that of the "
      f"cheapest architecture, {table.cheapest:,.6g} {table.unit}"
    )
  # Softmax shifts a row by a constant, which no comparison of paths sees.
  return _best_path(logits, table, slack - table.fixed)


def _check_arch(arch: np.ndarray, mask: np.ndarray) -> None:
  if arch.shape != mask.shape:
    raise ValueError(
      f"arch has the shape {arch.shape}: expected the table's {mask.shape}, "
      "[edge, candidate]"
    )
  if not np.isfinite(arch[mask]).all():
    edges = np.nonzero((mask & ~np.isfinite(arch)).any(axis=1))[0].tolist()
    raise ValueError(
      f"arch is not finite at edges {edges}: expected finite values; the "
      "search has diverged: lower its learning rates"
    )


def _best_path(logits, table: CostTable, limit: float) -> np.ndarray:
  """The knapsack's best path; `limit` is without the table's fixed part."""
  cheapest = np.where(table.mask, table.costs, np.inf).min(1)
  still_to_pay = np.append(np.cumsum(cheapest[::-1])[::-1][1:], 0.0)
  cost, score = np.zeros(1), np.zeros(1)
  trail = []
  for e in range(len(logits)):
    (candidates,) = np.nonzero(table.mask[e])
    new_cost = (cost[:, None] + table.costs[e, candidates]).ravel()
    new_score = (score[:, None] + logits[e, candidates]).ravel()
    order = np.lexsort((-new_score, new_cost))
    order = order[new_cost[order] + still_to_pay[e] <= limit]
    ahead = np.append(-np.inf, new_score[order][:-1])
    order = order[new_score[order] > np.maximum.accumulate(ahead)]
    cost, score = new_cost[order], new_score[order]
    parents, choices = np.divmod(order, len(candidates))
    trail.append((parents, candidates[choices]))
  at = int(np.argmax(score))
  path = np.zeros(len(logits), int)
  for e in reversed(range(len(logits))):
    parents, choices = trail[e]
    path[e], at = choices[at], parents[at]
  return path
