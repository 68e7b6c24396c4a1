"""A second look at a trained supernet before an architecture is derived.

What alpha has learned is noisy. So some hundred paths near the target are
drawn, their accuracy A with inherited weights is measured, and an additive
model is fitted by ridge regression,

    A(path) ~ c + sum_e v[e, path_e],   min_{c, v} sum (A - model)^2 + r |v|^2,

whose best path within the targets is found exactly, as `derive` finds the most
probable one: max_path sum_e v[e, path_e]. An average over hundreds of paths is
less noisy than the accuracy of any one of them, but what the supernet is wrong
about stays wrong: on a supernet of 9 epochs it beat the most probable path of
`two` and of REINFORCE in five of six searches, and that of `full` in none of
three (`results/nas_bench_macro_h200.json`).

Draws follow the probabilities of the search, tilted by the cost so that the
target is where most of them fall: p'[e, j] ~ p[e, j] exp(-t cost[e, j]).
"""

from __future__ import annotations

import numpy as np

from proxyless_jax.hardware import CostTable

# Rounds of drawing before what was found has to do.
ROUNDS = 200


def draw_near(
  rng: np.random.Generator,
  probs: np.ndarray,
  table: CostTable,
  low: float,
  high: float,
  count: int,
) -> np.ndarray:
  """Different paths that cost from `low` to `high`.

  Args:
    rng: source of the draws.
    probs: f[e, k], of candidates; zero where there is none.
    table: table of a cost that adds up over the edges.
    low, high: limits, in the table's unit.
    count: number of paths that are wanted.

  Returns:
    i64[n, e], n <= count: fewer where the limits leave, or the draws find, no
    more.

  Raises:
    ValueError: a table whose cost does not add up, or no path was found.
  """
  if table.combine != "sum":
    raise ValueError(
      f"the table ({table.source}) combines by {table.combine!r}: expected a "
      "cost that adds up over the edges"
    )
  tilted = _tilted(probs, table, (low + high) / 2)
  cumulative = np.cumsum(tilted, axis=1)
  cumulative /= cumulative[:, -1:]
  found: dict[bytes, np.ndarray] = {}
  for _ in range(ROUNDS):
    uniform = rng.random((count, len(probs), 1))
    paths = np.sum(uniform >= cumulative[:, :-1], axis=2)
    costs = table.fixed + table.costs[np.arange(len(probs)), paths].sum(axis=1)
    for path in paths[(costs >= low) & (costs <= high)]:
      found.setdefault(path.tobytes(), path)
    if len(found) >= count:
      break
  if not found:
    raise ValueError(
      f"no path of {ROUNDS * count} draws costs {low:g} to {high:g} "
      f"{table.unit}: expected limits that the space can meet, it has "
      f"{table.min_cost:g} to {table.max_cost:g}"
    )
  return np.array(list(found.values())[:count])


def _tilted(probs, table: CostTable, middle: float) -> np.ndarray:
  """Probabilities whose expected cost is `middle`, or as near as can be."""
  costs = (table.costs - table.costs.min()) / max(np.ptp(table.costs), 1e-300)
  low, high = -200.0, 200.0
  for _ in range(60):
    tilt = (low + high) / 2
    weights = probs * np.exp(-tilt * (costs - costs.mean(1, keepdims=True)))
    tilted = weights / weights.sum(axis=1, keepdims=True)
    expected = table.fixed + float(np.sum(tilted * table.costs))
    low, high = (tilt, high) if expected > middle else (low, tilt)
  return tilted


def fit_additive(
  paths: np.ndarray, accuracy: np.ndarray, valid: np.ndarray, ridge: float
) -> np.ndarray:
  """What each candidate of each edge adds to the accuracy.

  Args:
    paths: i64[n, e], measured ones.
    accuracy: f64[n].
    valid: bool[e, k], which candidates exist.
    ridge: r of the module's equation; above 0, so that candidates that no path
      has get 0, the mean.

  Returns:
    v f64[e, k], zero where there is no candidate.
  """
  edges, k = valid.shape
  one_hot = np.zeros((len(paths), edges, k))
  np.put_along_axis(one_hot, np.asarray(paths)[:, :, None], 1.0, axis=2)
  x = one_hot.reshape(len(paths), edges * k)
  centred = x - x.mean(axis=0)
  gram = centred.T @ centred + ridge * np.eye(edges * k)
  moment = centred.T @ (accuracy - np.mean(accuracy))
  values = np.linalg.solve(gram, moment).reshape(edges, k)
  return np.where(valid, values, 0.0)
