"""Parts of the figures of all families: colours, legend, boxes and texts.

All lengths are in inches.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.typing import RcKeyType

KERNEL_COLORS = {1: "#d9c8ec", 3: "#9fd0ea", 5: "#ffd27a", 7: "#f2a491"}
OTHER_KERNEL = "#b9dcb0"
NO_KERNEL = "#ffffff"
FIXED = "#d5d8dc"
BANDS = ("#f1f4f7", "#e5eaef")
INK, FAINT = "#1d2733", "#5d6b7a"

MARGIN = 0.3
WIDE = 18.6  # Of rows of diagrams, about.
HEADER = 0.95  # Title and one row of a legend.
LEGEND_ROW, LEGEND_SIZE, SAMPLE = 0.3, 8.5, 0.32
TAPER = 0.4  # Of the height of a box with a stride.

RC: dict[RcKeyType, Any] = {
  # matplotlib brings the first font; browsers take the one they have.
  "font.family": "sans-serif",
  "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
  "text.usetex": False,
  # Text stays text: small files that can be searched.
  "svg.fonttype": "none",
  # Ids in the file follow from the salt: equal networks give equal files.
  "svg.hashsalt": "proxyless_jax",
}


# Text and look of each sample: a look has matplotlib's style of a polygon, and
# 'height' and 'taper' of the sample. None: a text without a sample.
Legend = list[tuple[str, dict[str, Any] | None]]

Item = TypeVar("Item")


class Drawing(NamedTuple):
  """The contents of a figure.

  Attributes:
    contents: beginning of the title, such as '21 blocks'.
    legend: entries for `legend_rows`.
    width, height: size of the picture below title and legend.
    draw: function that draws it: (axes, y of the upper end) -> None; it begins
      at x = MARGIN.
  """

  contents: str
  legend: Legend
  width: float
  height: float
  draw: Callable[[Axes, float], None]


def legend_rows(entries: Legend, width: float) -> list[Legend]:
  """The entries of a legend in rows of at most `width`, see `draw_legend`."""
  rows: list[Legend] = [[]]
  for entry in entries:
    if rows[-1] and legend_width([*rows[-1], entry]) > width:
      rows.append([])
    rows[-1].append(entry)
  return rows


def legend_width(row: Legend) -> float:
  """Width of a row of a legend."""
  return sum(_entry_width(*entry) for entry in row)


def _entry_width(label: str, look: dict[str, Any] | None) -> float:
  sample = SAMPLE if look is not None else 0
  return sample + text_width(label, LEGEND_SIZE) + 0.22


def draw_legend(axes: Axes, row: Legend, y: float) -> None:
  """Draws a row of samples with their texts.

  Args:
    axes: where to draw.
    row: text and look of each sample.
    y: middle of the row.
  """
  x = MARGIN
  for label, look in row:
    right = x + _entry_width(label, look)
    if look is not None:
      look = {"facecolor": "none", "edgecolor": INK, **look}
      height, taper = look.pop("height", 0.19), look.pop("taper", 0)
      polygon(axes, corners(x + 0.12, y, 0.24, height, taper), **look)
      x += SAMPLE
    write(axes, x, y, label, LEGEND_SIZE, ha="left")
    x = right


@functools.lru_cache(maxsize=4096)
def text_width(line: str, size: float, bold: bool = False) -> float:
  """Width of a line of text of `size` points, in inches."""
  from matplotlib.font_manager import FontProperties
  from matplotlib.textpath import text_to_path

  weight = "bold" if bold else "normal"
  font = FontProperties(family="DejaVu Sans", size=size, weight=weight)
  width, _, _ = text_to_path.get_text_width_height_descent(line, font, False)
  return width / 72


def corners(
  x: float, y: float, width: float, height: float, taper: float = 0
) -> list[tuple[float, float]]:
  """Corners of a box around (x, y); `taper` is cut off its right side."""
  left, right = height / 2, height / 2 * (1 - taper)
  x0, x1 = x - width / 2, x + width / 2
  return [(x0, y - left), (x1, y - right), (x1, y + right), (x0, y + left)]


def polygon(
  axes: Axes,
  points: Sequence[tuple[float, float]],
  facecolor: str = "none",
  edgecolor: str = "none",
  **style: Any,
) -> None:
  """Draws a polygon; `style` is matplotlib's."""
  from matplotlib.patches import Polygon

  look = {"joinstyle": "round", "linewidth": 0.9, "zorder": 2, **style}
  axes.add_patch(Polygon(points, fc=facecolor, ec=edgecolor, **look))


def write(
  axes: Axes, x: float, y: float, words: str, size: float, **style: Any
) -> None:
  """Writes text of `size` points; `style` is matplotlib's."""
  look = {"ha": "center", "va": "center", "color": INK, "zorder": 3, **style}
  axes.text(x, y, words, fontsize=size, **look)


def runs(
  row: Iterable[Item], key: Callable[[Item], Hashable]
) -> Iterable[tuple[int, int, Item]]:
  """First column, last column and first item of each run of equal keys."""
  for _, run in itertools.groupby(enumerate(row), lambda item: key(item[1])):
    items = list(run)
    yield items[0][0], items[-1][0], items[0][1]
