"""An additive model of a supernet: which candidates make paths good.

Some hundred paths, spread evenly over the candidates, are evaluated with the
weights of the supernet. Ridge regression then gives what each candidate of each
edge adds to the loss L,

    -L(path) ~ c + sum_e v[e, path_e],   min_{c, v} sum (L + model)^2 + r |v|^2,

and the best path within targets is max_path sum_e v[e, path_e], which `derive`
solves exactly with v in the place of alpha.

An average over hundreds of paths is less noisy than the loss of any one of
them, and a sum leaves out what a short-lived supernet gets wrong of whole
networks: that larger ones learn more slowly. The loss ranks networks better
than the accuracy does. `experiments/nas_bench_macro.py` has the evidence.
"""

from __future__ import annotations

import numpy as np

# Of v: little against the hundreds of paths, enough for candidates without one.
RIDGE = 1.0


def spread_paths(
  rng: np.random.Generator, valid: np.ndarray, count: int
) -> np.ndarray:
  """Random paths that have each candidate of an edge equally often.

  Args:
    rng: source of the draws.
    valid: bool[e, k], which candidates exist.
    count: number of paths; candidates are equally often to within one.

  Returns:
    i64[count, e].
  """
  paths = np.empty((count, len(valid)), np.int64)
  for edge, exist in enumerate(np.asarray(valid)):
    candidates = rng.permutation(np.flatnonzero(exist))
    paths[:, edge] = rng.permutation(np.resize(candidates, count))
  return paths


def fit_additive(
  paths: np.ndarray,
  values: np.ndarray,
  valid: np.ndarray,
  ridge: float = RIDGE,
) -> np.ndarray:
  """What each candidate of each edge adds to the values of paths.

  Args:
    paths: i64[n, e], paths.
    values: f[n], their values, such as minus their losses.
    valid: bool[e, k], which candidates exist.
    ridge: r of the module's equation, above 0.

  Returns:
    v f64[e, k]: zero where no candidate exists or no path has it.

  Raises:
    ValueError: the arrays are not of the same paths, a path has a candidate
      that does not exist, a value is not finite, or `ridge` is not above 0.

  Example:
    >>> paths = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> v = fit_additive(paths, [0.0, 1.0, 10.0, 11.0], np.ones((2, 2)), 1e-9)
    >>> print(v.round(3))
    [[-5.   5. ]
     [-0.5  0.5]]
  """
  paths, values = np.asarray(paths), np.asarray(values, np.float64)
  edges, k = np.shape(valid)
  if paths.shape != (len(values), edges):
    raise ValueError(
      f"paths have the shape {paths.shape}: expected ({len(values)}, {edges}), "
      "a path for each value and a candidate for each edge"
    )
  if not np.all((paths >= 0) & (paths < k)):
    raise ValueError(f"paths have candidates outside 0 to {k - 1}")
  if not ridge > 0:
    raise ValueError(f"ridge = {ridge}: expected a number above 0")
  if not np.isfinite(values).all():
    raise ValueError(
      f"{np.sum(~np.isfinite(values))} of {len(values)} values are not finite: "
      "expected losses of a supernet that has not diverged"
    )
  one_hot = np.zeros((len(paths), edges, k))
  np.put_along_axis(one_hot, paths[:, :, None], 1.0, axis=2)
  x = one_hot.reshape(len(paths), edges * k)
  x = x - x.mean(axis=0)
  gram = x.T @ x + ridge * np.eye(edges * k)
  v = np.linalg.solve(gram, x.T @ (values - values.mean()))
  return np.where(valid, v.reshape(edges, k), 0.0)
