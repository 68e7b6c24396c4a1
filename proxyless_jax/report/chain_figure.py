"""The picture of a chain: blocks from left to right, in rows.

In the manner of the figures of Cai, Zhu, Han, ProxylessNAS, ICLR 2019: colour
shows the kernel, height the expansion, a taper a stride, a dashed outline a
block that the search dropped, and grey what was not searched. All lengths are
in inches.
"""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from proxyless_jax.report.candidates import draw_candidates
from proxyless_jax.report.looks import (
  abbreviations,
  by,
  color_of,
  kernel_of,
  kind_of,
)
from proxyless_jax.report.shapes import (
  BANDS,
  FAINT,
  FIXED,
  INK,
  MARGIN,
  NO_KERNEL,
  TAPER,
  Drawing,
  Legend,
  corners,
  polygon,
  runs,
  write,
)
from proxyless_jax.space import Edge, Network, Op

if TYPE_CHECKING:
  from matplotlib.axes import Axes

PITCH, BOX = 0.84, 0.68  # From box to box, and a box's width.
TALLEST = 1.0
ROW = 2.0
SIZE_AT, WIDTH_AT = TALLEST / 2 + 0.18, -TALLEST / 2 - 0.36  # Of labels.
INPUT, OUTPUT = 0.85, 0.35
FLATTER = 0.35  # Of a taper: rows of candidates stay high enough.
LONGEST = 10  # Letters in a line of a box, if a word is no longer.


@dataclasses.dataclass(frozen=True)
class Box:
  """An edge as it is drawn."""

  edge: Edge
  text: str
  color: str
  height: float
  skipped: bool


def draw_chain(network: Network) -> Drawing:
  """The drawing of a network: a box for every edge, in their order."""
  boxes = _boxes(network)
  rows = _rows(boxes)

  def draw(axes: Axes, top: float) -> None:
    for i, row in enumerate(rows):
      middle = top - i * ROW - 0.36 - TALLEST / 2
      _draw_row(axes, row, middle, is_first=i == 0)

  count = len(network.edges)
  contents = "1 block" if count == 1 else f"{count} blocks"
  if skipped := sum(box.skipped for box in boxes):
    contents += f", {skipped} skipped"
  width = INPUT + max(len(row) for row in rows) * PITCH + OUTPUT
  height = len(rows) * ROW
  return Drawing(contents, _legend(boxes), width, height, draw)


def _boxes(network: Network) -> list[Box]:
  searched = {edge.name for edge in network.edges}
  ops = [op for edge in network.layers for op in edge.ops]
  largest = max([6, *(getattr(op, "expand", None) or 0 for op in ops)])
  boxes = []
  for edge in network.layers:
    if len(edge.ops) > 1:
      boxes.append(Box(edge, "", NO_KERNEL, TALLEST, False))
      continue
    color = color_of(edge.op) if edge.name in searched else FIXED
    # An operation without an expansion is as high as one of 2.
    expand = getattr(edge.op, "expand", None) or 2
    height = TALLEST * (0.28 + 0.72 * expand / largest)
    skipped = edge.op.name == "zero"
    boxes.append(Box(edge, _label(edge.op), color, height, skipped))
  return boxes


def _label(op: Op) -> str:
  """'MB6' over '5×5' for mbconv6_k5; other names much as they are."""
  if op.name == "zero":
    return "skip"
  kernel = kernel_of(op)
  kind = textwrap.fill(kind_of(op), LONGEST, break_long_words=False)
  return kind if kernel is None else f"{kind}\n{by(kernel)}"


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


def _shape(box: Box) -> tuple[int, int, int]:
  return box.edge.shape_out


def _draw_row(
  axes: Axes, row: Sequence[Box], middle: float, is_first: bool
) -> None:
  left = MARGIN + INPUT
  end = left + len(row) * PITCH + OUTPUT
  _draw_bands(axes, row, left, middle)
  _draw_widths(axes, row, left, middle)
  arrow = {"arrowstyle": "-|>", "color": FAINT, "lw": 1.1, "shrinkA": 0}
  tail, tip = (left - 0.24, middle), (end, middle)
  axes.annotate("", tip, tail, arrowprops=arrow, zorder=1)
  if is_first:
    height, width, features = row[0].edge.shape_in
    text = f"input\n{height}×{width}\n{features}"
    write(axes, MARGIN + 0.25, middle, text, 8.5, color=FAINT)
    for y, text in ((SIZE_AT, "size"), (WIDTH_AT, "width")):
      write(axes, MARGIN + 0.25, middle + y, text, 8.5, color=FAINT)
  for i, box in enumerate(row):
    _draw_box(axes, box, left + (i + 0.5) * PITCH, middle)


def _draw_box(axes: Axes, box: Box, x: float, middle: float) -> None:
  if box.skipped:
    points = corners(x, middle, BOX, box.height)
    polygon(axes, points, edgecolor=FAINT, linestyle=(0, (3, 2.5)))
    # Above the line that runs through.
    write(axes, x, middle + 0.12, box.text, 8.5, color=FAINT, style="italic")
    return
  taper = TAPER if box.edge.stride > 1 else 0
  if len(box.edge.ops) > 1:
    at = (x, middle)
    taper *= FLATTER
    draw_candidates(axes, box.edge.ops, at, BOX, box.height, taper=taper)
    return
  points = corners(x, middle, BOX, box.height, taper)
  polygon(axes, points, facecolor=box.color, edgecolor=INK)
  longest = max(len(line) for line in box.text.split("\n"))
  # Letters are about 0.62 of the size wide; 72 points are an inch.
  size = min(9.5, 72 * BOX * 0.94 / (0.62 * longest))
  write(axes, x, middle, box.text, size, linespacing=1.35)


def _draw_bands(
  axes: Axes, row: Sequence[Box], left: float, middle: float
) -> None:
  """A band behind the boxes of one resolution, named above."""
  low, high = middle - TALLEST / 2 - 0.1, middle + SIZE_AT + 0.14
  bands = runs(row, lambda box: box.edge.size_out)
  for i, (first, last, box) in enumerate(bands):
    x0, x1 = left + first * PITCH, left + (last + 1) * PITCH
    points = [(x0, low), (x1, low), (x1, high), (x0, high)]
    polygon(axes, points, facecolor=BANDS[i % 2], zorder=0)
    height, width, _ = box.edge.shape_out
    text = f"{height}×{width}"
    write(axes, (x0 + x1) / 2, middle + SIZE_AT, text, 8.5, color=FAINT)


def _draw_widths(
  axes: Axes, row: Sequence[Box], left: float, middle: float
) -> None:
  """A bracket below the boxes of one width, with the width."""
  y = middle + WIDTH_AT + 0.14
  inset = (PITCH - BOX) / 2
  for first, last, box in runs(row, _shape):
    x0 = left + first * PITCH + inset
    x1 = left + (last + 1) * PITCH - inset
    up = y + 0.05
    axes.plot([x0, x0, x1, x1], [up, y, y, up], color=FAINT, lw=0.9)
    write(axes, (x0 + x1) / 2, middle + WIDTH_AT, f"{box.edge.features_out}", 9)


def _legend(boxes: Sequence[Box]) -> Legend:
  """Text, and the sample's look, of what occurs among the boxes."""
  drawn = [box for box in boxes if not box.skipped]
  searched = [box for box in drawn if box.color != FIXED]
  kernels = {
    kernel: color_of(op)
    for box in searched
    for op in box.edge.ops
    if (kernel := kernel_of(op)) is not None
  }
  entries: Legend = [
    (f"kernel {by(kernel)}", {"facecolor": color})
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
  if any(len(box.edge.ops) > 1 for box in drawn):
    entries.append(("rows: the candidates of a block", None))
  elif len({box.height for box in searched}) > 1:
    entries.append(("height: expansion", {"height": 0.1}))
  return entries + abbreviations([op for box in drawn for op in box.edge.ops])
