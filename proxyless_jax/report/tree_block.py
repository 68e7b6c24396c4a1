"""A block with trees in full: layers, split, trees, sums and shortcuts.

All lengths are in inches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxyless_jax.report.looks import by, kernel_of, kind_of, words_of
from proxyless_jax.report.shapes import (
  FAINT,
  FIXED,
  INK,
  corners,
  polygon,
  text_width,
  write,
)
from proxyless_jax.report.tree_diagram import (
  LARGE,
  ROWS,
  Form,
  Point,
  draw_dots,
  draw_lines,
  draw_trees_of,
  trees_height,
  trees_width,
)
from proxyless_jax.space import Block, Edge, NormConv, Op

if TYPE_CHECKING:
  from matplotlib.axes import Axes

BODY = 2.4  # Least width of a full block.
SIDE = 0.16  # From a tree to the line of its shortcut.
BAR = 0.26  # Height of the box of a layer around the trees.
CAPTION = 0.34
BEFORE, AFTER = 1.72, 1.95  # From the top to the trees, and below them.
PLUS = 0.085


def full_width(block: Block) -> float:
  """Width of `draw_block`."""
  return max(_right(block) + 0.45, 4.1)


def _body(block: Block) -> float:
  """Width of the layers around the trees: they have room for their texts."""
  return max(trees_width(block, LARGE), BODY)


def _right(block: Block) -> float:
  """From the left of a full block to the line of its shortcut."""
  width, norms = _body(block), block.branch_norms
  last = SIDE + width * (1 - 0.5 / len(norms))
  texts = text_width(_channels(norms[-1]), 7) + 0.2
  return max(SIDE + width + SIDE + 0.14, last + texts)


def full_height(block: Block) -> float:
  """Height of `draw_block`."""
  return BEFORE + trees_height(block, _full_form(block)) + AFTER


def _full_form(block: Block) -> Form:
  """Boxes of a space are higher: they have a row for each candidate."""
  return LARGE if all(len(edge.ops) == 1 for edge in block.edges) else ROWS


def draw_block(axes: Axes, block: Block, title: str, corner: Point) -> None:
  """Draws a block with everything in it, in a large form.

  Args:
    axes: where to draw.
    block: block of an architecture.
    title: text above it.
    corner: upper left corner (x, y).
  """
  x, top = corner
  left, width = x + SIDE, _body(block)
  middle = left + width / 2
  write(axes, x, top - 0.1, title, 9, ha="left", weight="bold")
  start = (middle, top - CAPTION)
  draw_lines(axes, [(middle, start[1] + 0.12), start])
  draw_dots(axes, [start], LARGE.dot)
  below = _draw_bars(axes, [block.in_bottleneck, block.conv], start, width)
  left += (width - trees_width(block, LARGE)) / 2
  trees_top, form = (left, top - BEFORE), _full_form(block)
  roots, sums = draw_trees_of(axes, block, trees_top, form, in_full)
  for root, norm in zip(roots, block.branch_norms):
    draw_lines(axes, [(root[0], below), root])
    text = _channels(norm)
    y = (below + root[1]) / 2
    write(axes, root[0] + 0.06, y, text, 7, ha="left", color=FAINT)
  joined = [
    _draw_residual(axes, root, at, side)
    for root, at, side in zip(roots, sums, _sides(block, left))
  ]
  y = joined[0][1] - 0.3
  draw_lines(axes, *([point, (middle, y)] for point in joined))
  plus(axes, (middle, y))
  bars = [block.out_bottleneck, block.final_norm]
  end = (middle, _draw_bars(axes, bars, (middle, y), width, PLUS) - 0.18)
  draw_lines(axes, [(middle, end[1] + 0.18), (middle, end[1] - 0.22)])
  _draw_shortcut(axes, block, start, end, x + _right(block))


def _channels(norm: Edge) -> str:
  return f"{norm.features_in} channels"


def _sides(block: Block, left: float) -> list[float]:
  """Where the line of the shortcut of each tree runs: beside it."""
  trees, width = len(block.branch_norms), trees_width(block, LARGE)
  own = (width + LARGE.part) / trees
  sides = []
  for i in range(trees):
    start = left + i * own
    is_left = i < trees / 2
    sides.append(start - SIDE if is_left else start + own - LARGE.part + SIDE)
  return sides


def _draw_residual(axes: Axes, root: Point, at: Point, side: float) -> Point:
  """From a tree's sum over its norm to the sum with its root."""
  x, y = at
  end = (x, y - 0.56)
  plus(axes, at)
  draw_lines(axes, [at, end])
  points = corners(x, y - 0.28, LARGE.width, 0.2)
  polygon(axes, points, FIXED, edgecolor=INK, linewidth=0.7)
  write(axes, x, y - 0.28, "norm", 7)
  draw_lines(axes, [root, (side, root[1]), (side, end[1]), end])
  plus(axes, end)
  return end


def _draw_bars(
  axes: Axes, edges: list[Edge], start: Point, width: float, skip: float = 0
) -> float:
  """Layers below each other, as wide as the trees; the y of their lower end."""
  x, y = start
  y -= 0.16 + skip
  draw_lines(axes, [start, (x, y)])
  for i, edge in enumerate(edges):
    if i:
      draw_lines(axes, [(x, y), (x, y - 0.12)])
      y -= 0.12
    points = corners(x, y - BAR / 2, width, BAR)
    polygon(axes, points, FIXED, edgecolor=INK, linewidth=0.7)
    text = _describe(edge)
    size = min(7.5, 7.5 * 0.94 * width / text_width(text, 7.5))
    write(axes, x, y - BAR / 2, text, size)
    y -= BAR
  return y


def _describe(edge: Edge) -> str:
  """Such as 'conv 3×3 in 2 groups, stride 2, 18 → 36'."""
  op, text = edge.op, words_of(edge.op)
  if isinstance(op, NormConv) and op.groups > 1:
    text += f" in {op.groups} groups{', shuffled' * op.shuffle}"
  if edge.stride > 1:
    text += f", stride {edge.stride}"
  if edge.features_in != edge.features_out:
    text += f", {edge.features_in} → {edge.features_out}"
  return text


def _draw_shortcut(
  axes: Axes, block: Block, start: Point, end: Point, x: float
) -> None:
  draw_lines(axes, [start, (x, start[1]), (x, end[1]), end])
  plus(axes, end)
  what = ["shortcut"]
  if block.conv.stride > 1:
    what.append("average pooling")
  if block.in_bottleneck.features_in < block.final_norm.features_out:
    what.append("zeros for new channels")
  text, y = ", ".join(what), (start[1] + end[1]) / 2
  write(axes, x + 0.12, y, text, 7, color=FAINT, rotation=90)


def in_full(op: Op) -> str:
  """The text in a large box: 'sep conv' over '5×5'."""
  kernel = kernel_of(op)
  return kind_of(op) if kernel is None else f"{kind_of(op)}\n{by(kernel)}"


def plus(axes: Axes, at: Point) -> None:
  """Draws the sign of a sum."""
  from matplotlib.patches import Circle

  x, y = at
  style: dict[str, Any] = {"color": INK, "lw": 0.8, "zorder": 4}
  axes.add_patch(Circle(at, PLUS, fc="white", ec=INK, lw=0.8, zorder=3))
  axes.plot([x - 0.6 * PLUS, x + 0.6 * PLUS], [y, y], **style)
  axes.plot([x, x], [y - 0.6 * PLUS, y + 0.6 * PLUS], **style)
