"""From whole networks to parts: least squares with a prior.

A block by itself does not cost what it costs inside a network: caches are warm
or cold, operations fuse or not. A table should predict whole networks, so it is
fitted to them, with the blocks alone as the prior:

    y_n = fixed + sum_b counts[n, b] (scale * alone_b + delta_b) + noise

    min  sum_n (residual_n / (y_n s_n))^2 + penalty sum_b (delta_b / alone_b)^2

with s_n the relative noise of y_n. At an infinite penalty, only the scale and
the fixed part are fitted. The penalty is the largest whose leave-one-out errors
are within half a standard error of the least, after the rule of Breiman et al.
(CART, 1984, section 3.4.3): corrections must be distinguishable from noise.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import optimize

# From little to much trust in the blocks alone: their relative deviations are
# free at 1e-4, and about 1 % at 1e4.
PENALTIES = (*np.logspace(-4, 5, 37), np.inf)
# Relative error of adding costs up, beside the noise of the readings.
MODEL_NOISE = 0.005


@dataclasses.dataclass(frozen=True)
class Fit:
  """The costs of a network's parts.

  Attributes:
    fixed: cost of everything that all networks have.
    costs: f[b], costs of the blocks inside a network.
    scale: factor of the blocks' costs alone.
    penalty: weight of deviations from the scaled costs.
    error: root mean square of the relative leave-one-out errors.
  """

  fixed: float
  costs: np.ndarray
  scale: float
  penalty: float
  error: float


def fit_costs(
  counts: np.ndarray,
  measured: np.ndarray,
  alone: np.ndarray,
  errors: np.ndarray,
) -> Fit:
  """Fits fixed part and blocks to whole networks.

  Args:
    counts: f[n, b], number of blocks b in network n.
    measured: f[n], positive costs of the networks.
    alone: f[b], costs of the blocks by themselves, 0 or more.
    errors: f[n], relative standard errors of `measured`.

  Raises:
    ValueError: fewer than 4 networks.
  """
  if len(measured) < 4:
    raise ValueError(
      f"calibration = {len(measured)} networks: expected 4 or more to fit the "
      "fixed part and the scale of the blocks"
    )
  noise = np.sqrt(errors**2 + MODEL_NOISE**2)
  problem = _Problem(counts, measured, alone, noise)
  left_out = np.array([problem.left_out(penalty) for penalty in PENALTIES])
  # The root of a mean of n squares has a standard error of 1 / sqrt(2n) of it.
  enough = left_out.min() * (1.0 + 0.5 / np.sqrt(2 * len(measured)))
  best = int(np.flatnonzero(left_out <= enough + 1e-9).max())
  return problem.solve(PENALTIES[best], left_out[best])


class _Problem:
  """The least squares, in residuals relative to the noise."""

  def __init__(
    self,
    counts: np.ndarray,
    measured: np.ndarray,
    alone: np.ndarray,
    noise: np.ndarray,
  ) -> None:
    self._weights = 1.0 / (measured * noise)
    self._target = 1.0 / noise
    self._alone = alone
    # A block that costs nothing alone may cost a little inside.
    typical = np.median(alone[alone > 0]) if (alone > 0).any() else 1.0
    self._width = np.maximum(alone, 0.05 * typical)
    free = np.stack([np.ones(len(measured)), counts @ alone], axis=1)
    self._free = free * self._weights[:, None]
    self._deltas = counts * self._width * self._weights[:, None]

  def _system(self, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the networks, then of the prior; columns fixed, scale, deltas."""
    b = self._deltas.shape[1]
    if np.isinf(penalty):
      return self._free, self._target
    prior = np.concatenate([np.zeros((b, 2)), np.sqrt(penalty) * np.eye(b)], 1)
    rows = np.concatenate([self._free, self._deltas], axis=1)
    target = np.append(self._target, np.zeros(b))
    return np.concatenate([rows, prior]), target

  def left_out(self, penalty: float) -> float:
    """Root mean square of the relative leave-one-out errors."""
    rows, target = self._system(penalty)
    # Residuals over 1 - leverage are those of fits without the network itself.
    inverse = np.linalg.pinv(rows)
    leverage = np.einsum("nc,cn->n", rows, inverse)
    residuals = target - rows @ (inverse @ target)
    n = len(self._free)
    left = np.maximum(1.0 - leverage[:n], 1e-9)
    relative = residuals[:n] / left / self._target
    return float(np.sqrt(np.mean(relative**2)))

  def solve(self, penalty: float, error: float) -> Fit:
    """The fit, with no negative cost."""
    rows, target = self._system(penalty)
    lower = np.full(rows.shape[1], -np.inf)
    lower[:2] = 0.0
    found = optimize.lsq_linear(rows, target, (lower, np.inf), tol=1e-12).x
    deltas = found[2:] * self._width if len(found) > 2 else 0.0
    costs = np.maximum(found[1] * self._alone + deltas, 0.0)
    return Fit(float(found[0]), costs, float(found[1]), penalty, float(error))
