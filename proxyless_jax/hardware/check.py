"""The errors of a measured table, on networks that it was not fitted to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from scipy import stats

# Fewer networks than this say nothing of a table.
FEWEST = 10
# Errors up to this do not hurt a search, whatever the noise.
HARMLESS = 0.05
# Times the noise that an error may be.
FAR = 3.0


@dataclasses.dataclass(frozen=True)
class Check:
  """A table against networks that it was not fitted to.

  Attributes:
    predicted: f[n], costs by the table.
    measured: f[2, n], costs measured in two passes, each with programs of its
      own.
    known: predicted and measured cost of published networks of the space.
    unit: unit of all costs.
  """

  predicted: np.ndarray
  measured: np.ndarray
  known: Mapping[str, tuple[float, float]]
  unit: str

  @property
  def errors(self) -> np.ndarray:
    """f[n]: relative errors against the mean of the two passes."""
    return self.predicted / self.measured.mean(0) - 1.0

  def summary(self) -> dict[str, float]:
    """The figures of the check by name; fractions, not percent."""
    one, two = self.measured
    return {
      "held_out": len(self.predicted),
      "error_mean": float(np.mean(np.abs(self.errors))),
      "error_max": float(np.max(np.abs(self.errors))),
      "bias": float(np.mean(self.errors)),
      "spearman": _spearman(self.predicted, self.measured.mean(0)),
      "noise_mean": float(np.mean(np.abs(two / one - 1.0))),
      "noise_max": float(np.max(np.abs(two / one - 1.0))),
      "noise_spearman": _spearman(one, two),
    }

  def warnings(self) -> list[str]:
    """Reasons why the figures of `summary` are worth little; mostly none."""
    figures, found = self.summary(), []
    count, error = len(self.predicted), figures["error_mean"]
    noise = figures["noise_mean"]
    if count < FEWEST:
      found.append(
        f"{count} networks are too few to judge the table: expected "
        f"{FEWEST} or more (measure.held_out)"
      )
    if noise > HARMLESS:
      found.append(
        f"two measurements of a network differ by {100 * noise:.0f} % on "
        "average: the device is too busy or too noisy for a table"
      )
    elif error > max(HARMLESS, FAR * noise):
      found.append(
        f"the mean error of {100 * error:.0f} % is far above the noise of "
        f"{100 * noise:.1f} %: the table does not describe this device"
      )
    return found


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
  """Rank correlation; 0 where all costs are equal, which have no order."""
  value = float(stats.spearmanr(a, b).statistic) if np.ptp(a) else 0.0
  return value if np.isfinite(value) else 0.0
