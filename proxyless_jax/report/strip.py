"""A strip of slim boxes: the overview of a network with many parts.

A box is a part of the network, such as a block or a cell; its height grows with
its width in channels. Sizes stand above, widths below, as many as there is room
for. All lengths are in inches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from proxyless_jax.report.shapes import (
  BANDS,
  FAINT,
  INK,
  TAPER,
  corners,
  polygon,
  runs,
  text_width,
  write,
)

if TYPE_CHECKING:
  from matplotlib.axes import Axes

STRIP = 1.75  # Height.
INPUT, OUTPUT = 0.95, 0.3  # Left of the boxes, and right of them.
LOWEST, TALLEST = 0.24, 0.86
NARROWEST, WIDEST = 0.16, 0.6  # From box to box.


class Item(NamedTuple):
  """A part of a network.

  Attributes:
    shape: (h, w, channels) of what it gives.
    color: colour of its box.
    stride: stride in both spatial dimensions.
    text: text in its box, where all boxes have room for theirs.
  """

  shape: tuple[int, int, int]
  color: str
  stride: int = 1
  text: str = ""


def strip_pitch(count: int, room: float) -> float:
  """Distance of `count` boxes in a strip that is `room` wide, if that fits."""
  return min(WIDEST, max(NARROWEST, (room - INPUT - OUTPUT) / count))


def strip_width(count: int, pitch: float) -> float:
  """Width of a strip of `count` boxes."""
  return INPUT + count * pitch + OUTPUT


def draw_strip(
  axes: Axes,
  items: Sequence[Item],
  shape_in: tuple[int, int, int],
  corner: tuple[float, float],
  pitch: float,
) -> None:
  """Draws a strip.

  Args:
    axes: where to draw.
    items: parts of the network, in the order in which they run.
    shape_in: (h, w, channels) of the images.
    corner: upper left corner (x, y).
    pitch: distance from box to box.
  """
  x, top = corner
  left, middle = x + INPUT, top - 0.36 - TALLEST / 2
  low, high = middle - TALLEST / 2 - 0.08, top
  height, width, features = shape_in
  lines = f"input\n{height}×{width}\n{features}"
  write(axes, x + 0.3, middle, lines, 8, color=FAINT)
  for y, text in ((high - 0.15, "size"), (low - 0.15, "width")):
    write(axes, x + 0.3, y, text, 8, color=FAINT)
  arrow = {"arrowstyle": "-|>", "color": FAINT, "lw": 1.1, "shrinkA": 0}
  tail = (left - 0.2, middle)
  tip = (left + len(items) * pitch + OUTPUT, middle)
  axes.annotate("", tip, tail, arrowprops=arrow, zorder=1)
  sizes, widths = [], []
  for i, (first, last, item) in enumerate(runs(items, lambda i: i.shape[:2])):
    x0, x1 = left + first * pitch, left + (last + 1) * pitch
    points = [(x0, low), (x1, low), (x1, high), (x0, high)]
    polygon(axes, points, facecolor=BANDS[i % 2], zorder=0)
    sizes.append(((x0 + x1) / 2, f"{item.shape[0]}×{item.shape[1]}"))
  for first, last, item in runs(items, lambda i: i.shape[2]):
    x = left + (first + last + 1) / 2 * pitch
    widths.append((x, str(item.shape[2])))
  _draw_boxes(axes, items, left, middle, pitch)
  for x, text in fitting(sizes, 8):
    write(axes, x, high - 0.15, text, 8, color=FAINT)
  for x, text in fitting(widths, 7.5):
    write(axes, x, low - 0.15, text, 7.5)


def _draw_boxes(
  axes: Axes, items: Sequence[Item], left: float, middle: float, pitch: float
) -> None:
  widest = max(item.shape[2] for item in items)
  # Numbers of some boxes alone would look like an error.
  has_room = all(text_width(item.text, 7) < 0.6 * pitch for item in items)
  for i, item in enumerate(items):
    height = LOWEST + (TALLEST - LOWEST) * item.shape[2] / widest
    taper = TAPER if item.stride > 1 else 0
    x = left + (i + 0.5) * pitch
    points = corners(x, middle, 0.76 * pitch, height, taper)
    polygon(axes, points, item.color, edgecolor=INK, linewidth=0.7)
    if has_room:
      write(axes, x, middle, item.text, 7)


def fitting(
  labels: Iterable[tuple[float, str]], size: float
) -> list[tuple[float, str]]:
  """Those of the labels (middle, text) in a line that do not touch another."""
  kept: list[tuple[float, str]] = []
  end = float("-inf")
  for x, text in labels:
    half = text_width(text, size) / 2 + 0.03
    if x - half >= end:
      kept.append((x, text))
      end = x + half
  return kept
