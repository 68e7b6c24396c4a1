"""Diagrams of the trees of a block: from the split at the top to their sums.

A box is an edge, with its operation; a dot is a node, which passes its input to
each edge below it; a plus is a sum. All lengths are in inches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from proxyless_jax.report.candidates import draw_candidates
from proxyless_jax.report.looks import (
  color_of,
  kernel_of,
  kind_of,
)
from proxyless_jax.report.shapes import (
  FAINT,
  INK,
  corners,
  polygon,
  text_width,
  write,
)
from proxyless_jax.space import Block, Edge, Op

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
# With rows of candidates in the boxes.
ROWS = dataclasses.replace(LARGE, height=1.0, level=1.55)


def trees_width(block: Block, form: Form) -> float:
  """Width of the trees of a block, side by side."""
  leaves, trees = len(block.levels[-1]), len(block.branch_norms)
  boxes = leaves * form.width + (leaves - trees) * form.gap
  return boxes + (trees - 1) * form.part


def trees_height(block: Block, form: Form) -> float:
  """Height of the trees of a block, from their roots to their sums."""
  return (len(block.levels) + 0.35) * form.level


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
  if len(edge.ops) > 1:
    draw_candidates(axes, edge.ops, at, form.width, form.height)
    return
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


def codes(ops: Mapping[str, Op]) -> dict[str, str]:
  """Short texts for operations by name, no two equal: 's5' for sep_conv_5."""
  found: dict[str, str] = {}
  for name, op in ops.items():
    kind, kernel = kind_of(op).replace(" ", ""), kernel_of(op) or ""
    tries = [f"{kind[:n]}{kernel}" for n in range(1, len(kind) + 1)]
    free = [code for code in tries if code not in found.values()]
    found[name] = free[0] if free else str(len(found))
  return found


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
