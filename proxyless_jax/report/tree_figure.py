"""The figure of a PyramidNet with trees: a column of cells for each block.

Blocks run from left to right, in rows; a cell is an edge of a block's trees, in
the order of `Block.edges`: level by level, and half by half within a level. Its
colour shows the operation. All lengths are in inches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from proxyless_jax.report.shapes import (
  BANDS,
  FAINT,
  INK,
  KERNEL_COLORS,
  MARGIN,
  NO_KERNEL,
  OTHER_KERNEL,
  Drawing,
  corners,
  polygon,
  runs,
  write,
)
from proxyless_jax.space import Block, Op, Tree

if TYPE_CHECKING:
  from matplotlib.axes import Axes

CELL, GAP = 0.27, 0.1  # Of cells, and between levels.
LEFT, ABOVE, BELOW = 0.95, 0.36, 0.5
LONGEST = 54  # Blocks in a row.

COLORS = {"max_pool": "#c3c8cf", "avg_pool": "#e9dfcd", "dil_conv": "#8fc7b5"}


def draw_trees(network: Tree) -> Drawing:
  """The drawing of an architecture."""
  blocks, ops = network.blocks, {e.op.name: e.op for e in network.edges}
  count = -(-len(blocks) // LONGEST)
  length = -(-len(blocks) // count)
  rows = [blocks[i : i + length] for i in range(0, len(blocks), length)]
  legend = [
    (name.replace("_", " "), {"facecolor": _color(op)})
    for name, op in sorted(ops.items())
  ]
  tallest = max(len(block.edges) * CELL + _gaps(block) for block in blocks)
  pitch = ABOVE + tallest + BELOW

  def draw(axes: Axes, top: float) -> None:
    for i, row in enumerate(rows):
      _draw_row(axes, row, top - i * pitch - ABOVE, tallest)

  names = [edge.op.name for edge in network.edges]
  contents = "1 block" if len(blocks) == 1 else f"{len(blocks)} blocks"
  contents += f", {len(names)} edges"
  if skipped := names.count("zero"):
    contents += f", {skipped} skipped"
  width, height = LEFT + length * CELL, len(rows) * pitch
  return Drawing(contents, legend, width, height, draw)


def _gaps(block: Block) -> float:
  return (len(block.levels) - 1) * GAP


def _color(op: Op) -> str:
  kind = op.name.rstrip("0123456789").rstrip("_")
  if kind in COLORS:
    return COLORS[kind]
  kernel = getattr(op, "kernel", None)
  if kernel is None:
    return NO_KERNEL
  return KERNEL_COLORS.get(kernel, OTHER_KERNEL)


def _draw_row(
  axes: Axes, row: Sequence[Block], top: float, height: float
) -> None:
  left = MARGIN + LEFT
  low = top - height
  _draw_bands(axes, row, left, low, top)
  _draw_widths(axes, row, left, low)
  _name_levels(axes, row[0], top)
  for i, block in enumerate(row):
    y = top
    for level in block.levels:
      for edge in level:
        points = corners(
          left + (i + 0.5) * CELL, y - CELL / 2, CELL * 0.88, CELL * 0.88
        )
        color = _color(edge.op)
        polygon(axes, points, color, edgecolor=INK, linewidth=0.5)
        y -= CELL
      y -= GAP


def _draw_bands(
  axes: Axes, row: Sequence[Block], left: float, low: float, top: float
) -> None:
  """A band behind the blocks of one resolution, named above."""
  bands = runs(row, lambda block: block.out_bottleneck.size)
  for i, (first, last, block) in enumerate(bands):
    x0, x1 = left + first * CELL, left + (last + 1) * CELL
    low_, high = low - 0.05, top + ABOVE - 0.08
    points = [(x0, low_), (x1, low_), (x1, high), (x0, high)]
    polygon(axes, points, facecolor=BANDS[i % 2], zorder=0)
    height, width, _ = block.out_bottleneck.shape_in
    text = f"{height}×{width}"
    write(axes, (x0 + x1) / 2, top + 0.13, text, 8.5, color=FAINT)


def _draw_widths(
  axes: Axes, row: Sequence[Block], left: float, low: float
) -> None:
  """Below: the widths inside the blocks, as many as there is room for."""
  end = -1.0
  for first, last, block in runs(row, lambda b: b.in_bottleneck.features_out):
    x = left + (first + last + 1) / 2 * CELL
    if x - end < CELL:
      continue
    width = str(block.in_bottleneck.features_out)
    write(axes, x, low - 0.17, width, 7, color=FAINT)
    end = x + 0.03 * len(width)


def _name_levels(axes: Axes, block: Block, top: float) -> None:
  y = top
  for number, level in enumerate(block.levels, 1):
    own = len(level) // len(block.branch_norms)
    for half in range(len(block.branch_norms)):
      middle = y - (half + 0.5) * own * CELL
      label = f"level {number}\npart {half + 1}"
      write(axes, MARGIN + 0.4, middle, label, 7.5, color=FAINT)
    y -= len(level) * CELL + GAP
  write(axes, MARGIN + 0.4, y + GAP - 0.17, "width", 7.5, color=FAINT)
