import dataclasses

import numpy as np
import pytest

from proxyless_jax.hardware.check import Check


def test_figures_of_a_check():
  predicted = np.array([1.1, 2.0, 3.0])
  check = Check(predicted, np.array([[1.0, 2.0, 3.0]] * 2), {}, "ms")
  figures = check.summary()
  assert figures["error_max"] == pytest.approx(0.1)
  assert figures["error_mean"] == pytest.approx(0.1 / 3)
  assert figures["spearman"] == 1.0 and figures["noise_mean"] == 0.0
  flat = dataclasses.replace(check, predicted=np.ones(3))
  assert flat.summary()["spearman"] == 0.0


def noisy_check(count, error, noise):
  """A check whose table and second pass are off by fractions."""
  costs = np.arange(1.0, count + 1)
  measured = np.stack([costs * (1 - noise / 2), costs * (1 + noise / 2)])
  return Check(costs * (1 + error), measured, {}, "ms")


@pytest.mark.parametrize(
  ("count", "error", "noise", "words"),
  [
    (30, 0.01, 0.01, []),
    # Far above the noise, but no matter for a search.
    (30, 0.04, 0.001, []),
    (9, 0.01, 0.01, ["9 networks are too few"]),
    (30, 0.2, 0.01, ["mean error of 20 % is far above the noise of 1.0 %"]),
    (30, 0.2, 0.2, ["differ by 22 %"]),
    (4, 0.2, 0.0, ["too few", "far above"]),
  ],
)
def test_warnings_of_a_check(count, error, noise, words):
  warnings = noisy_check(count, error, noise).warnings()
  assert len(warnings) == len(words)
  for warning, part in zip(warnings, words):
    assert part in warning
