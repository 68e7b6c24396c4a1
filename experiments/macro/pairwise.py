"""A model of paths with a term for each pair of candidates.

    value(path) ~ c + sum_e v[e, path_e] + sum_{e < f} w[e, f, path_e, path_f]

by ridge regression, of a strength that predicts held-out paths best. Its best
network is found by trying all of a space, where that is small.
"""

from __future__ import annotations

import itertools

import numpy as np

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
FOLDS = 10


def predict(
  paths: np.ndarray, values: np.ndarray, others: np.ndarray, k: int
) -> np.ndarray:
  """Values f64[m] of other paths.

  Args:
    paths: i64[n, e], paths with known values.
    values: f64[n], these.
    others: i64[m, e].
    k: number of candidates of an edge.
  """
  x = features(paths, k)
  fold = np.arange(len(x)) % FOLDS

  def error(strength: float) -> float:
    errors = [
      values[fold == i]
      - _fitted(x[fold != i], values[fold != i], x[fold == i], strength)
      for i in range(FOLDS)
    ]
    return float(np.mean(np.concatenate(errors) ** 2))

  return _fitted(x, values, features(others, k), min(STRENGTHS, key=error))


def features(paths: np.ndarray, k: int) -> np.ndarray:
  """One-hot candidates, and the products of each two: f64[n, -1]."""
  one_hot = np.eye(k)[paths]
  n, edges = paths.shape
  pairs = [
    (one_hot[:, e, :, None] * one_hot[:, f, None, :]).reshape(n, -1)
    for e, f in itertools.combinations(range(edges), 2)
  ]
  return np.concatenate([one_hot.reshape(n, -1), *pairs], axis=1)


def _fitted(x, y, others, strength: float) -> np.ndarray:
  centre = x.mean(axis=0)
  x = x - centre
  gram = x.T @ x + strength * np.eye(x.shape[1])
  weights = np.linalg.solve(gram, x.T @ (y - y.mean()))
  return y.mean() + (others - centre) @ weights
