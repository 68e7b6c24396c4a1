"""A figure of predicted against measured costs.

All texts stand beside the plot, so that none lies on a point. Lengths are in
inches.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from proxyless_jax.report.shapes import FAINT, INK, RC, text_width, write

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

# Predicted and measured cost of networks by name.
Known = Mapping[str, tuple[float, float]]
DOT, KNOWN, WARNING = "#2f7fb5", "#d1632f", "#b3261e"
BAND_COLOR = "#e4ebf2"
MARKERS = "sD^vPXphd<>*"
SIDE = 3.9  # Of the plot.
LEFT, BOTTOM, TOP, RIGHT = 0.85, 0.6, 0.5, 0.3  # Around the plot.
TEXT, LINE, SPACE = 8.5, 0.19, 0.11  # Points; height of a line; between parts.
INDENT = 0.24  # Of a text with a sign before it.
LETTERS = 52  # In a line.
# Margin around the costs, as a part of their range.
ROOM = 0.07
# Of the band around equality.
BAND = 0.05


class Entry(NamedTuple):
  """A line of text beside the plot.

  Attributes:
    text: line of text.
    marker: matplotlib's marker of the sign before it; '' for none.
    color: colour of the sign, or else of the text.
    gap: space above it.
  """

  text: str
  marker: str = ""
  color: str = INK
  gap: float = 0.0


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
  warnings: Sequence[str] = (),
) -> None:
  """Draws networks as dots: measured costs along x, predicted ones along y.

  Args:
    predicted, measured: cost of each network, in `unit`.
    path_svg, path_png: paths of the files to write; equal costs give equal
      files.
    title: title of the figure.
    unit: unit of the costs.
    known: predicted and measured cost of networks that are shown by name.
    note: text beside the plot, of one or more lines.
    warnings: reasons not to trust the figures, shown above the note.
  """
  # Imported here, and without pyplot: that holds global state and windows.
  import matplotlib

  with matplotlib.rc_context(RC):
    entries = entries_of(known, note, warnings)
    figure = make_scatter(predicted, measured, title, unit, known, entries)
    figure.savefig(path_svg, format="svg", metadata={"Date": None})
    figure.savefig(path_png, format="png", dpi=140)


def make_scatter(
  predicted: Sequence[float],
  measured: Sequence[float],
  title: str,
  unit: str,
  known: Known,
  entries: Sequence[Entry],
) -> Figure:
  """The figure; the caller sets matplotlib's `RC`."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  texts = INDENT + max(text_width(entry.text, TEXT) for entry in entries)
  width = LEFT + SIDE + RIGHT + max(texts, 1.0) + RIGHT
  width = max(width, LEFT + text_width(title, 10.5, True) + RIGHT)
  tall = sum(LINE + entry.gap for entry in entries)
  height = TOP + max(SIDE + BOTTOM, tall + RIGHT)
  figure = Figure(figsize=(width, height), facecolor="white")
  FigureCanvasAgg(figure)
  low, high = _range([*predicted, *measured, *sum(known.values(), ())])
  bottom = height - TOP - SIDE
  place = (LEFT / width, bottom / height, SIDE / width, SIDE / height)
  axes = figure.add_axes(place)
  _draw_axes(axes, unit, low, high)
  look: dict[str, Any] = {"linewidths": 0.6, "edgecolors": "white"}
  axes.scatter(measured, predicted, s=30, color=DOT, zorder=3, **look)
  for marker, (y, x) in zip(_markers(known), known.values()):
    look |= {"marker": marker, "color": KNOWN, "zorder": 4}
    axes.scatter([x], [y], s=46, **look)
  sheet = figure.add_axes((0, 0, 1, 1))
  sheet.set(xlim=(0, width), ylim=(0, height))
  sheet.set_axis_off()
  y = height - TOP / 2
  write(sheet, LEFT, y, title, 10.5, ha="left", weight="bold")
  _draw_entries(sheet, entries, LEFT + SIDE + RIGHT, height - TOP)
  return figure


def entries_of(known: Known, note: str, warnings: Sequence[str]) -> list[Entry]:
  """The lines beside the plot."""
  entries = []
  for warning in warnings:
    for i, line in enumerate(textwrap.wrap(f"! {warning}", LETTERS)):
      entries.append(Entry(line, color=WARNING, gap=0 if i else SPACE))
  for i, line in enumerate(note.split("\n")):
    entries.append(Entry(line, gap=0 if i else SPACE))
  entries.append(Entry("network that was not fitted", "o", DOT, SPACE))
  entries.append(Entry(f"error of ± {100 * BAND:.0f} %", "_", BAND_COLOR))
  for marker, (name, (y, x)) in zip(_markers(known), known.items()):
    error = f": error {100 * (y / x - 1):+.1f} %" if x else ""
    entries.append(Entry(name + error, marker, KNOWN))
  return entries


def _markers(known: Known) -> str:
  """A marker for each; after many, they repeat."""
  return MARKERS * (len(known) // len(MARKERS) + 1)


def _draw_entries(
  sheet: Axes, entries: Sequence[Entry], x: float, y: float
) -> None:
  for entry in entries:
    y -= entry.gap + LINE
    middle, color = y + LINE / 2, entry.color
    if entry.marker == "_":
      ends = [x, x + 0.14]
      sheet.plot(ends, [middle] * 2, color=color, lw=6, solid_capstyle="butt")
    elif entry.marker:
      look: dict[str, Any] = {"marker": entry.marker, "linewidths": 0}
      sheet.scatter([x + 0.07], [middle], s=36, color=color, **look)
    at = x + INDENT if entry.marker else x
    color = INK if entry.marker else color
    write(sheet, at, middle, entry.text, TEXT, ha="left", color=color)


def _range(costs: list[float]) -> tuple[float, float]:
  low, high = min(costs), max(costs)
  room = ROOM * (high - low) or 0.05 * high or 1.0
  return max(0.0, low - room), high + room


def _draw_axes(axes: Axes, unit: str, low: float, high: float) -> None:
  """Axes with the line of equal costs, and a band on both sides."""
  from matplotlib.ticker import MaxNLocator

  ends = [low, high]
  below, above = ([(1 + part) * x for x in ends] for part in (-BAND, BAND))
  axes.fill_between(ends, below, above, color=BAND_COLOR, lw=0, zorder=0)
  axes.plot(ends, ends, color=FAINT, lw=0.9, zorder=1)
  axes.set(xlim=(low, high), ylim=(low, high))
  found = MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(low, high)
  ticks = [tick for tick in found if low <= tick <= high]
  axes.set(xticks=ticks, yticks=ticks)
  axes.set_xlabel(f"measured, {unit}", color=INK)
  axes.set_ylabel(f"predicted by the table, {unit}", color=INK)
  axes.tick_params(colors=FAINT, labelsize=8.5)
  for side in ("top", "right"):
    axes.spines[side].set_visible(False)
  for side in ("left", "bottom"):
    axes.spines[side].set_color(FAINT)
