"""The additive model of a supernet, by enumeration and least squares."""

import itertools

import numpy as np
import pytest

from proxyless_jax.nas.additive import fit_additive, spread_paths

VALID = np.array([[True, True, True], [True, True, False], [True] * 3])


def test_spread_paths_have_each_candidate_equally_often():
  paths = spread_paths(np.random.default_rng(0), VALID, 20)
  assert paths.shape == (20, 3)
  for edge, exist in enumerate(VALID):
    counts = np.bincount(paths[:, edge], minlength=3)
    assert counts[~exist].sum() == 0
    assert np.ptp(counts[exist]) <= 1


def test_spread_paths_are_independent_from_edge_to_edge():
  paths = spread_paths(np.random.default_rng(1), VALID, 3000)
  counts = np.bincount(2 * paths[:, 0] + paths[:, 1], minlength=6)
  assert np.sum((counts - 500.0) ** 2 / 500.0) < 20.5  # 5 degrees, at 0.999.


def test_an_additive_truth_is_found_through_noise():
  rng = np.random.default_rng(2)
  truth = np.where(VALID, rng.standard_normal(VALID.shape), 0.0)
  paths = spread_paths(rng, VALID, 400)
  values = truth[np.arange(3), paths].sum(axis=1)
  v = fit_additive(paths, values + 0.1 * rng.standard_normal(400), VALID)
  every = np.array(list(itertools.product(range(3), range(2), range(3))))
  predicted = v[np.arange(3), every].sum(axis=1)
  wanted = truth[np.arange(3), every].sum(axis=1)
  difference = predicted - wanted
  np.testing.assert_allclose(difference - difference.mean(), 0.0, atol=0.04)


def test_it_is_ridge_regression_with_a_free_constant():
  """Against the normal equations of the whole problem, constant included."""
  rng = np.random.default_rng(3)
  paths = spread_paths(rng, VALID, 12)
  values = rng.standard_normal(12)
  v = fit_additive(paths, values, VALID, ridge=0.7)
  x = np.concatenate(
    [np.eye(3)[paths[:, edge]] for edge in range(3)] + [np.ones((12, 1))], 1
  )
  penalty = 0.7 * np.diag([1.0] * 9 + [0.0])
  wanted = np.linalg.solve(x.T @ x + penalty, x.T @ values)[:9].reshape(3, 3)
  np.testing.assert_allclose(v, np.where(VALID, wanted, 0.0), atol=1e-10)


def test_a_candidate_without_a_path_adds_nothing():
  paths = np.array([[0, 0, 0], [1, 1, 1], [0, 1, 1]])
  assert fit_additive(paths, np.arange(3.0), VALID)[0, 2] == 0.0


@pytest.mark.parametrize(
  ("paths", "values", "message"),
  [
    (np.zeros((4, 2), int), np.zeros(4), r"expected \(4, 3\)"),
    (np.zeros((3, 3), int), np.zeros(4), r"expected \(4, 3\)"),
    (np.zeros((2, 3), int), [0.0, np.nan], "1 of 2 values are not finite"),
    (np.full((2, 3), -1), [0.0, 1.0], "candidates outside 0 to 2"),
  ],
)
def test_wrong_arrays_are_refused(paths, values, message):
  with pytest.raises(ValueError, match=message):
    fit_additive(paths, values, VALID)


def test_a_ridge_of_zero_is_refused():
  with pytest.raises(ValueError, match=r"ridge = 0\.0: expected a number"):
    fit_additive(np.zeros((2, 3), int), [0.0, 1.0], VALID, ridge=0.0)
