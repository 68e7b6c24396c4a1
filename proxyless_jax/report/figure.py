"""A figure of a found network, in the manner of those in the paper.

Cai, Zhu, Han, ProxylessNAS, ICLR 2019. Blocks run from left to right, in rows;
colour is the kernel, height the expansion, a taper a stride, a dashed outline
a block that the search dropped, and grey what it did not choose. All lengths
are in inches.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from proxyless_jax.report.progress import format_value
from proxyless_jax.space import Edge, Network, macs, parameters

if TYPE_CHECKING:
  from matplotlib.axes import Axes

KERNEL_COLORS = {1: "#d9c8ec", 3: "#9fd0ea", 5: "#ffd27a", 7: "#f2a491"}
OTHER_KERNEL = "#b9dcb0"
NO_KERNEL = "#ffffff"
FIXED = "#d5d8dc"
BANDS = ("#f1f4f7", "#e5eaef")
INK, FAINT = "#1d2733", "#5d6b7a"

PITCH, BOX = 0.84, 0.68  # From box to box, and a box's width.
TALLEST = 1.0
ROW = 2.0
SIZE_AT, WIDTH_AT = TALLEST / 2 + 0.18, -TALLEST / 2 - 0.36  # Of labels.
MARGIN, INPUT, OUTPUT = 0.3, 0.85, 0.35
HEADER = 0.95
TAPER = 0.4  # Of the height of a box with a stride.

RC = {
  # matplotlib brings the first font; browsers take the one they have.
  "font.family": "sans-serif",
  "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
  "text.usetex": False,
  # Text stays text: small files that can be searched.
  "svg.fonttype": "none",
  # Ids in the file follow from the salt: equal networks give equal files.
  "svg.hashsalt": "proxyless_jax",
}


@dataclasses.dataclass(frozen=True)
class Box:
  """What one edge looks like."""

  edge: Edge
  text: str
  color: str
  height: float
  skipped: bool


def draw_architecture(
  network: Network, path_svg: str | os.PathLike, path_png: str | os.PathLike
) -> None:
  """Draws an architecture of any family, as SVG and as PNG.

  Args:
    network: with one candidate per edge.
    path_svg, path_png: the files to write; equal networks give equal files.

  Raises:
    ValueError: an edge still has several candidates.
  """
  # Imported here, and without pyplot: that holds global state and windows.
  import matplotlib

  with matplotlib.rc_context(RC):
    figure = _figure(network)
    figure.savefig(path_svg, format="svg", metadata={"Date": None})
    figure.savefig(path_png, format="png", dpi=160)


def _figure(network: Network):
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  title, boxes = _title(network), _boxes(network)
  rows, legend = _rows(boxes), _legend(boxes)
  content = (
    INPUT + max(len(row) for row in rows) * PITCH + OUTPUT,
    sum(_legend_width(text) for text, _ in legend),
    0.12 * len(title),
  )
  width, height = 2 * MARGIN + max(content), HEADER + len(rows) * ROW
  figure = Figure(figsize=(width, height), facecolor="white")
  FigureCanvasAgg(figure)
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set(xlim=(0, width), ylim=(0, height))
  axes.set_axis_off()
  _text(axes, MARGIN, height - 0.3, title, 12, ha="left", weight="bold")
  _draw_legend(axes, legend, height - 0.68)
  for i, row in enumerate(rows):
    middle = height - HEADER - i * ROW - 0.36 - TALLEST / 2
    _draw_row(axes, row, middle, is_first=i == 0)
  return figure


def _title(network: Network) -> str:
  names = [edge.op.name for edge in network.edges]
  skipped = names.count("zero")
  blocks = "1 block" if len(names) == 1 else f"{len(names)} blocks"
  parts = [f"{blocks}, {skipped} skipped" if skipped else blocks]
  parts += [format_value(parameters(network), "parameters")]
  parts += [format_value(macs(network), "MACs")]
  return "  ·  ".join(parts)


def _boxes(network: Network) -> list[Box]:
  searched = {edge.name for edge in network.edges}
  expands = [getattr(edge.op, "expand", None) or 0 for edge in network.layers]
  largest = max([6, *expands])
  boxes = []
  for edge, expand in zip(network.layers, expands):
    kernel = _kernel(edge.op)
    if edge.name not in searched:
      color = FIXED
    elif kernel is None:
      color = NO_KERNEL
    else:
      color = KERNEL_COLORS.get(kernel, OTHER_KERNEL)
    # An operation without an expansion is as high as one of 2.
    height = TALLEST * (0.28 + 0.72 * (expand or 2) / largest)
    skipped = edge.op.name == "zero"
    boxes.append(Box(edge, _label(edge.op), color, height, skipped))
  return boxes


def _kernel(op) -> int | None:
  """The kernel's size, from the attribute or the end of the name."""
  if getattr(op, "kernel", None):
    return op.kernel
  match = re.search(r"_k?(\d+)$", op.name)
  return int(match[1]) if match else None


def _label(op) -> str:
  """'MB6' over '5×5' for mbconv6_k5; other names much as they are."""
  if op.name == "zero":
    return "skip"
  name = re.sub(r"_k?\d+$", "", op.name)
  name = name.replace("mbconv", "MB").replace("_", " ")
  kernel = _kernel(op)
  return name if kernel is None else f"{name}\n{kernel}×{kernel}"


def _rows(boxes: Sequence[Box]) -> list[Sequence[Box]]:
  """Rows of about equal length, broken between stages where one is near."""
  longest = max(14, round(math.sqrt(3 * len(boxes))))
  rows = []
  while len(boxes) > longest:
    even = math.ceil(len(boxes) / math.ceil(len(boxes) / longest))
    near = range(max(1, even - 3), min(longest, even + 3) + 1)
    # False sorts first: a break between stages, then the nearest.
    cut = min(
      near,
      key=lambda i: (_shape(boxes[i - 1]) == _shape(boxes[i]), abs(i - even)),
    )
    rows.append(boxes[:cut])
    boxes = boxes[cut:]
  return [*rows, boxes]


def _shape(box: Box) -> tuple[int, int]:
  return box.edge.size_out, box.edge.features_out


def _runs(row: Iterable[Box], key) -> Iterable[tuple[int, int, Box]]:
  """First and last column of each run of boxes that share `key`."""
  for _, run in itertools.groupby(enumerate(row), lambda item: key(item[1])):
    run = list(run)
    yield run[0][0], run[-1][0], run[0][1]


def _draw_row(axes, row: Sequence[Box], middle: float, is_first: bool) -> None:
  left = MARGIN + INPUT
  end = left + len(row) * PITCH + OUTPUT
  _draw_bands(axes, row, left, middle)
  _draw_widths(axes, row, left, middle)
  arrow = {"arrowstyle": "-|>", "color": FAINT, "lw": 1.1, "shrinkA": 0}
  start, end = (left - 0.24, middle), (end, middle)
  axes.annotate("", end, start, arrowprops=arrow, zorder=1)
  if is_first:
    size, features = row[0].edge.size, row[0].edge.features_in
    text = f"input\n{size}×{size}\n{features}"
    _text(axes, MARGIN + 0.25, middle, text, 8.5, color=FAINT)
    for y, text in ((SIZE_AT, "size"), (WIDTH_AT, "width")):
      _text(axes, MARGIN + 0.25, middle + y, text, 8.5, color=FAINT)
  for i, box in enumerate(row):
    _draw_box(axes, box, left + (i + 0.5) * PITCH, middle)


def _draw_box(axes: Axes, box: Box, x: float, middle: float) -> None:
  if box.skipped:
    corners = _corners(x, middle, BOX, box.height)
    _polygon(axes, corners, edgecolor=FAINT, linestyle=(0, (3, 2.5)))
    # Above the line that runs through.
    _text(axes, x, middle + 0.12, box.text, 8.5, color=FAINT, style="italic")
    return
  taper = TAPER if box.edge.stride > 1 else 0
  corners = _corners(x, middle, BOX, box.height, taper)
  _polygon(axes, corners, facecolor=box.color, edgecolor=INK)
  longest = max(len(line) for line in box.text.split("\n"))
  # Letters are about 0.62 of the size wide; 72 points are an inch.
  size = min(9.5, 72 * BOX * 0.94 / (0.62 * longest))
  _text(axes, x, middle, box.text, size, linespacing=1.35)


def _draw_bands(axes, row: Sequence[Box], left: float, middle: float) -> None:
  """A band behind the boxes of one resolution, named above."""
  low, high = middle - TALLEST / 2 - 0.1, middle + SIZE_AT + 0.14
  runs = _runs(row, lambda box: box.edge.size_out)
  for i, (first, last, box) in enumerate(runs):
    x0, x1 = left + first * PITCH, left + (last + 1) * PITCH
    corners = [(x0, low), (x1, low), (x1, high), (x0, high)]
    _polygon(axes, corners, facecolor=BANDS[i % 2], zorder=0)
    size = box.edge.size_out
    text = f"{size}×{size}"
    _text(axes, (x0 + x1) / 2, middle + SIZE_AT, text, 8.5, color=FAINT)


def _draw_widths(axes, row: Sequence[Box], left: float, middle: float) -> None:
  """A bracket below the boxes of one width, with the width."""
  y = middle + WIDTH_AT + 0.14
  inset = (PITCH - BOX) / 2
  for first, last, box in _runs(row, _shape):
    x0 = left + first * PITCH + inset
    x1 = left + (last + 1) * PITCH - inset
    up = y + 0.05
    axes.plot([x0, x0, x1, x1], [up, y, y, up], color=FAINT, lw=0.9)
    _text(axes, (x0 + x1) / 2, middle + WIDTH_AT, f"{box.edge.features_out}", 9)


def _legend(boxes: Sequence[Box]) -> list[tuple[str, dict]]:
  """Text, and the sample's look, of what occurs among the boxes."""
  drawn = [box for box in boxes if not box.skipped]
  searched = [box for box in drawn if box.color != FIXED]
  kernels = {_kernel(box.edge.op): box.color for box in searched}
  kernels.pop(None, None)
  entries = [
    (f"{kernel}×{kernel}", {"facecolor": color})
    for kernel, color in sorted(kernels.items())
  ]
  if len(searched) < len(drawn):
    entries.append(("not searched", {"facecolor": FIXED}))
  if len(drawn) < len(boxes):
    dashed = {"edgecolor": FAINT, "linestyle": (0, (2, 1.5))}
    entries.append(("skipped", dashed))
  if strides := {box.edge.stride for box in drawn} - {1}:
    text = "stride " + ", ".join(map(str, sorted(strides)))
    entries.append((text, {"taper": TAPER}))
  if len({box.height for box in searched}) > 1:
    entries.append(("height: expansion", {"height": 0.1}))
  return entries


def _legend_width(text: str) -> float:
  return 0.47 + 0.067 * len(text)


def _draw_legend(axes: Axes, entries: list[tuple[str, dict]], y: float) -> None:
  x = MARGIN
  for text, look in entries:
    look = {"facecolor": "none", "edgecolor": INK, **look}
    height, taper = look.pop("height", 0.19), look.pop("taper", 0)
    _polygon(axes, _corners(x + 0.12, y, 0.24, height, taper), **look)
    _text(axes, x + 0.32, y, text, 8.5, ha="left")
    x += _legend_width(text)


def _corners(
  x: float, y: float, width: float, height: float, taper: float = 0
) -> list[tuple[float, float]]:
  """Corners of a box around (x, y), its right side lower by `taper`."""
  left, right = height / 2, height / 2 * (1 - taper)
  x0, x1 = x - width / 2, x + width / 2
  return [(x0, y - left), (x1, y - right), (x1, y + right), (x0, y + left)]


def _polygon(axes, corners, facecolor="none", edgecolor="none", **style):
  from matplotlib.patches import Polygon

  look = {"joinstyle": "round", "linewidth": 0.9, "zorder": 2, **style}
  axes.add_patch(Polygon(corners, fc=facecolor, ec=edgecolor, **look))


def _text(axes, x: float, y: float, text: str, size: float, **style) -> None:
  look = {"ha": "center", "va": "center", "color": INK, "zorder": 3, **style}
  axes.text(x, y, text, fontsize=size, **look)
