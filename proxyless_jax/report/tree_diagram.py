"""Diagrams of the trees of a block: from the split at the top to their sums.

A box is an edge, with its operation; a dot is a node, which passes its input to
each edge below it; a plus is a sum. All lengths are in inches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from proxyless_jax.report.looks import (
  by,
  color_of,
  kernel_of,
  kind_of,
  words_of,
)
from proxyless_jax.report.shapes import (
  FAINT,
  FIXED,
  INK,
  corners,
  polygon,
  text_width,
  write,
)
from proxyless_jax.space import Block, Edge, NormConv, Op

if TYPE_CHECKING:
  from matplotlib.axes import Axes

Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Form:
  """Lengths of a diagram.

  Attributes:
    width, height: of the box of an edge.
    gap: between boxes of a tree.
    part: between trees.
    level: height of a level.
    text: size of the text in a box, in points.
    dot: radius of a node.
  """

  width: float
  height: float
  gap: float
  part: float
  level: float
  text: float
  dot: float


LARGE = Form(0.66, 0.42, 0.1, 0.8, 0.96, 7.5, 0.035)
SMALL = Form(0.19, 0.19, 0.022, 0.12, 0.37, 5.8, 0.016)
BODY = 2.4  # Least width of a full block.
SIDE = 0.16  # From a tree to the line of its shortcut.
BAR = 0.26  # Height of the box of a layer around the trees.
CAPTION = 0.34
BEFORE, AFTER = 1.72, 1.95  # From the top to the trees, and below them.
PLUS = 0.085


def trees_width(block: Block, form: Form) -> float:
  """Width of the trees of a block, side by side."""
  leaves, trees = len(block.levels[-1]), len(block.branch_norms)
  boxes = leaves * form.width + (leaves - trees) * form.gap
  return boxes + (trees - 1) * form.part


def trees_height(block: Block, form: Form) -> float:
  """Height of the trees of a block, from their roots to their sums."""
  return (len(block.levels) + 0.35) * form.level


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
  return BEFORE + trees_height(block, LARGE) + AFTER


def draw_trees_of(
  axes: Axes,
  block: Block,
  corner: Point,
  form: Form,
  label: Callable[[Op], str],
) -> tuple[list[Point], list[Point]]:
  """Draws the trees of a block.

  Args:
    axes: where to draw.
    block: block of an architecture.
    corner: upper left corner (x, y).
    form: lengths.
    label: function from an operation to the text in its box.

  Returns:
    The roots and the sums of the trees.
  """
  (left, top), trees = corner, len(block.branch_norms)
  columns = _columns(block, form)
  middles = [sum(part) / len(part) for part in _parts(columns[0], trees)]
  roots = [(left + x, top) for x in middles]
  sums = [(left + x, top - trees_height(block, form)) for x in middles]
  above, lines, dots = roots, [], [*roots, *sums]
  for i, (level, xs) in enumerate(zip(block.levels, columns)):
    y = top - (i + 0.5) * form.level
    nodes = [(left + x, y - form.level / 2) for x in xs]
    is_last = i == len(columns) - 1
    for j, (edge, node) in enumerate(zip(level, nodes)):
      start = above[j // block.branches]
      end = sums[j * trees // len(level)] if is_last else node
      lines.append((start, (node[0], y + form.height / 2)))
      lines.append(((node[0], y - form.height / 2), end))
      _draw_edge(axes, edge, (node[0], y), form, label)
    dots += [] if is_last else nodes
    above = nodes
  draw_lines(axes, *lines)
  draw_dots(axes, dots, form.dot)
  return roots, sums


def _columns(block: Block, form: Form) -> list[list[float]]:
  """Positions of the edges of each level: in the middle of those below."""
  leaves, trees = len(block.levels[-1]), len(block.branch_norms)
  own = leaves // trees
  xs = [
    form.width / 2
    + i * (form.width + form.gap)
    + i // own * (form.part - form.gap)
    for i in range(leaves)
  ]
  columns = [xs]
  while len(columns) < len(block.levels):
    xs = [
      sum(part) / len(part) for part in _parts(xs, len(xs) // block.branches)
    ]
    columns.insert(0, xs)
  return columns


def _parts(items: list[float], count: int) -> list[list[float]]:
  """The items in `count` parts of equal length."""
  own = len(items) // count
  return [items[i * own : (i + 1) * own] for i in range(count)]


def _draw_edge(
  axes: Axes, edge: Edge, at: Point, form: Form, label: Callable[[Op], str]
) -> None:
  points = corners(*at, form.width, form.height)
  if edge.op.name == "zero":
    dashed: dict[str, Any] = {"edgecolor": FAINT, "linestyle": (0, (3, 2.5))}
    polygon(axes, points, "white", linewidth=0.7, **dashed)
  else:
    color = color_of(edge.op)
    polygon(axes, points, color, edgecolor=INK, linewidth=0.7)
  text = label(edge.op)
  size = _fitting_size(text, form)
  write(axes, *at, text, size, linespacing=1.25)


def _fitting_size(text: str, form: Form) -> float:
  """The size of a text, smaller where a box is too narrow for it."""
  widest = max(text_width(part, form.text) for part in text.split("\n"))
  return form.text * min(1, 0.92 * form.width / widest) if widest else form.text


def in_full(op: Op) -> str:
  """The text in a large box: 'sep conv' over '5×5'."""
  kernel = kernel_of(op)
  return kind_of(op) if kernel is None else f"{kind_of(op)}\n{by(kernel)}"


def codes(ops: Mapping[str, Op]) -> dict[str, str]:
  """Short texts for operations by name, no two equal: 's5' for sep_conv_5."""
  found: dict[str, str] = {}
  for name, op in ops.items():
    kind, kernel = kind_of(op).replace(" ", ""), kernel_of(op) or ""
    tries = [f"{kind[:n]}{kernel}" for n in range(1, len(kind) + 1)]
    free = [code for code in tries if code not in found.values()]
    found[name] = free[0] if free else str(len(found))
  return found


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
  trees_top = (left, top - BEFORE)
  roots, sums = draw_trees_of(axes, block, trees_top, LARGE, in_full)
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


def draw_lines(axes: Axes, *lines: Sequence[Point]) -> None:
  """Draws lines through points, as one path: a picture may have thousands."""
  from matplotlib.patches import PathPatch
  from matplotlib.path import Path

  path = Path.make_compound_path(*(Path(points) for points in lines))
  look = {"ec": FAINT, "lw": 0.8, "zorder": 1, "joinstyle": "round"}
  axes.add_patch(PathPatch(path, fc="none", **look))


def draw_dots(axes: Axes, points: Sequence[Point], radius: float) -> None:
  """Draws dots, as markers of one line."""
  xs, ys = zip(*points)
  size = 2 * 72 * radius
  axes.plot(xs, ys, "o", color=INK, markersize=size, mew=0, zorder=2)


def plus(axes: Axes, at: Point) -> None:
  """Draws the sign of a sum."""
  from matplotlib.patches import Circle

  x, y = at
  style: dict[str, Any] = {"color": INK, "lw": 0.8, "zorder": 4}
  axes.add_patch(Circle(at, PLUS, fc="white", ec=INK, lw=0.8, zorder=3))
  axes.plot([x - 0.6 * PLUS, x + 0.6 * PLUS], [y, y], **style)
  axes.plot([x, x], [y - 0.6 * PLUS, y + 0.6 * PLUS], **style)
