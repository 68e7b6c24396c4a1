"""How a search went: `alpha.jsonl`, the architecture parameters at each log.

A line has `stage`, `step` and `alpha`: for each searched edge a list of the
logits of its candidates, in the order of `search.json`, rounded to four
decimals. As in `metrics.jsonl`, a resumed run leaves no line twice.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import scipy.special

from proxyless_jax.report.lines import read_lines

FILE = "alpha.jsonl"
DECIMALS = 4  # A probability of softmax(alpha) is then off by 1e-4 at most.

# The logits of each edge, of the candidates that exist.
Alpha = list[list[float]]


def plain_alpha(alpha: np.ndarray, counts: Sequence[int]) -> Alpha:
  """The logits as a line has them, without the padding.

  Args:
    alpha: f[e, k], padded to the largest number of candidates.
    counts: number of candidates of each edge.
  """
  rows = np.asarray(alpha, np.float64).round(DECIMALS).tolist()
  return [row[:count] for row, count in zip(rows, counts)]


def probabilities(alpha: Alpha) -> list[np.ndarray]:
  """softmax(alpha) of each edge, f64[candidates]."""
  return [scipy.special.softmax(row) for row in alpha]


def read_alpha(workdir: str | os.PathLike) -> list[dict]:
  """The lines of `alpha.jsonl` in order; none where there is no file.

  Raises:
    ValueError: a line is not one of such a file.
  """
  path = os.path.join(os.path.expanduser(workdir), FILE)
  lines = read_lines(path)
  for number, line in enumerate(lines, start=1):
    if not isinstance(line.get("alpha"), list):
      raise ValueError(
        f"{path}, line {number}: expected a list 'alpha', got "
        f"{line.get('alpha')!r}; delete the line, or move the file away"
      )
  return lines
