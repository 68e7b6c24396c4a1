"""A figure of predicted against measured costs."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from proxyless_jax.report.shapes import FAINT, INK, RC, write

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

# Predicted and measured cost of networks by name.
Known = Mapping[str, tuple[float, float]]
DOT, KNOWN = "#2f7fb5", "#d1632f"
SIDE = 4.6  # Inches.
# Of the axes, about, and of a line of text, in points.
HEIGHT, LINE = 280.0, 10.0
# Margin around the costs, as a part of their range.
ROOM = 0.07
# Of the band around equality.
BAND = 0.05


def draw_scatter(
  predicted: Sequence[float],
  measured: Sequence[float],
  path_svg: str | os.PathLike,
  path_png: str | os.PathLike,
  *,
  title: str,
  unit: str,
  known: Known,
  note: str,
) -> None:
  """Draws networks as dots: measured costs along x, predicted ones along y.

  Args:
    predicted, measured: cost of each network, in `unit`.
    path_svg, path_png: paths of the files to write; equal costs give equal
      files.
    title: title of the figure.
    unit: unit of the costs.
    known: predicted and measured cost of networks that are shown by name.
    note: text in the corner, of one or more lines.
  """
  # Imported here, and without pyplot: that holds global state and windows.
  import matplotlib

  with matplotlib.rc_context(RC):
    figure = _figure(predicted, measured, title, unit, known, note)
    figure.savefig(path_svg, format="svg", metadata={"Date": None})
    figure.savefig(path_png, format="png", dpi=140)


def _figure(
  predicted: Sequence[float],
  measured: Sequence[float],
  title: str,
  unit: str,
  known: Known,
  note: str,
) -> Figure:
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(SIDE, SIDE), facecolor="white", layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  low, high = _range([*predicted, *measured, *sum(known.values(), ())])
  _draw_equality(axes, low, high)
  look: dict[str, Any] = {"linewidths": 0.6, "edgecolors": "white", "zorder": 3}
  axes.scatter(measured, predicted, s=30, color=DOT, **look)
  _draw_known(axes, known, look, low, high)
  axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
  axes.set_title(title, fontsize=10.5, color=INK, loc="left", weight="bold")
  axes.set_xlabel(f"measured, {unit}", color=INK)
  axes.set_ylabel(f"predicted by the table, {unit}", color=INK)
  axes.tick_params(colors=FAINT, labelsize=8.5)
  for side in ("top", "right"):
    axes.spines[side].set_visible(False)
  for side in ("left", "bottom"):
    axes.spines[side].set_color(FAINT)
  corner = {"transform": axes.transAxes, "ha": "left", "va": "top"}
  write(axes, 0.03, 0.97, note, 8.5, linespacing=1.5, **corner)
  return figure


def _range(costs: list[float]) -> tuple[float, float]:
  low, high = min(costs), max(costs)
  room = ROOM * (high - low) or 0.05 * high or 1.0
  return max(0.0, low - room), high + room


def _draw_equality(axes: Axes, low: float, high: float) -> None:
  """The line of equal costs, and a band of 5 % on both sides."""
  ends = [low, high]
  below, above = ([(1 + part) * x for x in ends] for part in (-BAND, BAND))
  axes.fill_between(ends, below, above, color="#eef2f6", lw=0, zorder=0)
  axes.plot(ends, ends, color=FAINT, lw=0.9, zorder=1)
  corner = {"transform": axes.transAxes, "ha": "right", "va": "bottom"}
  write(axes, 0.985, 0.02, "band: ± 5 %", 7.5, color=FAINT, **corner)


def _draw_known(
  axes: Axes, known: Known, look: dict, low: float, high: float
) -> None:
  """Dots from the lowest up, each name above the one before it."""
  below = -math.inf
  for name, (y, x) in sorted(known.items(), key=lambda item: item[1]):
    axes.scatter([x], [y], s=46, color=KNOWN, **look)
    points = HEIGHT * (y - low) / (high - low)
    rise = max(-3.0, below + LINE - points)
    below = points + rise
    _name_dot(axes, name, x, y, x > (low + high) / 2, rise)


def _name_dot(
  axes: Axes, name: str, x: float, y: float, left: bool, rise: float
) -> None:
  """To the side where there is room, `rise` points above the dot."""
  axes.annotate(
    name,
    (x, y),
    xytext=(-6 if left else 6, rise),
    textcoords="offset points",
    fontsize=8,
    color=INK,
    ha="right" if left else "left",
    zorder=4,
  )
