"""The box of an edge of a search space: a row for each candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from proxyless_jax.report.looks import color_of, words_or_skip
from proxyless_jax.report.shapes import (
  FAINT,
  INK,
  corners,
  polygon,
  text_width,
  write,
)
from proxyless_jax.space import Op

if TYPE_CHECKING:
  from matplotlib.axes import Axes

LARGEST = 7.0  # Points.
LOWEST = 0.1  # Inches of a row that has a text.


def draw_candidates(
  axes: Axes,
  ops: Sequence[Op],
  at: tuple[float, float],
  width: float,
  height: float,
  *,
  taper: float = 0,
) -> None:
  """Draws the candidates of an edge, one below the other.

  Args:
    axes: where to draw.
    ops: candidates, the first one at the top.
    at: middle (x, y) of the box.
    width, height: of the box; rows have texts where it is high enough.
    taper: part that is cut off its right side.
  """
  (x, y), count, right = at, len(ops), height * (1 - taper)
  x0, x1 = x - width / 2, x + width / 2
  widest = max(text_width(words_or_skip(op), LARGEST) for op in ops)
  size = LARGEST * min(1.0, 0.9 * width / widest, height / count / 0.13)
  for i, op in enumerate(ops):
    high, low = 0.5 - i / count, 0.5 - (i + 1) / count
    lower = [(x0, y + low * height), (x1, y + low * right)]
    upper = [(x1, y + high * right), (x0, y + high * height)]
    color = color_of(op)
    polygon(axes, lower + upper, color, edgecolor=INK, linewidth=0.4)
    if height / count >= LOWEST:
      middle = y + (high + low) / 2 * (height + right) / 2
      color = FAINT if op.name == "zero" else INK
      write(axes, x, middle, words_or_skip(op), size, color=color)
  polygon(axes, corners(x, y, width, height, taper), edgecolor=INK)
