"""The diagram of a cell, from the cells before it to the concatenation.

All lengths are in inches.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from proxyless_jax.report.layered import Layout, Node, lay_out
from proxyless_jax.report.looks import color_of, kernel_of, words_of
from proxyless_jax.report.shapes import (
  FAINT,
  FIXED,
  INK,
  NO_KERNEL,
  TAPER,
  corners,
  polygon,
  text_width,
  write,
)
from proxyless_jax.space import Cell, Op, Path

if TYPE_CHECKING:
  from matplotlib.axes import Axes

TEXT = 8.0
LINE, PADDING = 0.155, 0.14  # Height of a line of a box, and what is around.
NODE = 0.32
BETWEEN = 0.4  # Layers.
GAP = 0.14  # Between neighbours of a layer.
NAMES = ("cell k−2", "cell k−1")


@dataclasses.dataclass(frozen=True)
class Box:
  """A node of the drawn graph.

  Attributes:
    lines: text.
    layer: number of its layer.
    color: colour of it.
    tapered: whether it has a stride.
    is_round: whether it is a circle.
  """

  lines: tuple[str, ...]
  layer: int
  color: str = FIXED
  tapered: bool = False
  is_round: bool = False

  @property
  def width(self) -> float:
    if self.is_round:
      return NODE
    return max(text_width(line, TEXT) for line in self.lines) + 2 * PADDING

  @property
  def height(self) -> float:
    return NODE if self.is_round else len(self.lines) * LINE + PADDING


def path_lines(path: Path) -> tuple[str, ...]:
  """A line for each operation of a path, such as '2 × sep conv 3×3'."""
  names = [words_of(edge.op) for edge in path.edges]
  lines = []
  for name, run in itertools.groupby(names):
    count = len(list(run))
    lines.append(name if count == 1 else f"{count} × {name}")
  return tuple(lines) or ("identity",)


def main_op(path: Path) -> Op | None:
  """The operation that gives a path its colour: the first of largest kernel."""
  ops = [edge.op for edge in path.edges]
  return max(ops, key=lambda op: kernel_of(op) or 0) if ops else None


@dataclasses.dataclass(frozen=True)
class Diagram:
  """A cell as it is drawn.

  Attributes:
    boxes: nodes of the drawn graph.
    edges: pairs of its nodes.
    layout: vertical positions.
    columns: left side and width of each layer.
  """

  boxes: Mapping[Node, Box]
  edges: Sequence[tuple[Node, Node]]
  layout: Layout
  columns: Sequence[tuple[float, float]]

  @property
  def width(self) -> float:
    return sum(self.columns[-1])

  @property
  def height(self) -> float:
    return self.layout.height

  def draw(self, axes: Axes, corner: tuple[float, float]) -> None:
    """Draws it with its upper left corner at (x, y)."""
    for edge in self.edges:
      self._draw_line(axes, corner, edge)
    for node, box in self.boxes.items():
      start, width = self.columns[box.layer]
      x = corner[0] + start + width / 2
      y = corner[1] - self.layout.y[node]
      _draw_box(axes, box, x, y)

  def _draw_line(
    self, axes: Axes, corner: tuple[float, float], edge: tuple[Node, Node]
  ) -> None:
    source, target = edge
    x0, y0 = corner
    one, other = self.boxes[source], self.boxes[target]
    start, width = self.columns[one.layer]
    y = y0 - self.layout.y[source]
    # Curves only between columns: within one they would cross wider boxes.
    points = [
      (x0 + start + (width + one.width) / 2, y),
      (x0 + start + width, y),
    ]
    passed = self.columns[one.layer + 1 : other.layer]
    for (left, width), y in zip(passed, self.layout.routes[edge]):
      points += [(x0 + left, y0 - y), (x0 + left + width, y0 - y)]
    start, width = self.columns[other.layer]
    y = y0 - self.layout.y[target]
    points += [(x0 + start, y), (x0 + start + (width - other.width) / 2, y)]
    _draw_curve(axes, points)


def make_diagram(cell: Cell, inputs: Sequence[Sequence[str]]) -> Diagram:
  """The diagram of a cell.

  Args:
    cell: cell with one operation on each edge.
    inputs: lines that tell what each of the two inputs passes first.
  """
  boxes: dict[Node, Box] = {
    ("state", i): Box((name, *lines), 0)
    for i, (name, lines) in enumerate(zip(NAMES, inputs))
  }
  edges: list[tuple[Node, Node]] = []
  for i, paths in enumerate(cell.nodes):
    sources = [boxes["state", path.source].layer for path in paths]
    layer = max(sources) + 2
    for j, path in enumerate(paths):
      boxes["path", i, j] = _path_box(path, layer - 1)
      edges.append((("state", path.source), ("path", i, j)))
      edges.append((("path", i, j), ("state", i + 2)))
    boxes["state", i + 2] = Box((str(i),), layer, "white", is_round=True)
  _add_outputs(cell, boxes, edges)
  used = {node for edge in edges for node in edge}
  boxes = {node: box for node, box in boxes.items() if node in used}
  layers = {node: box.layer for node, box in boxes.items()}
  heights = {node: box.height for node, box in boxes.items()}
  layout = lay_out(layers, heights, edges, gap=GAP)
  return Diagram(boxes, edges, layout, _columns(list(boxes.values())))


def _path_box(path: Path, layer: int) -> Box:
  op = main_op(path)
  color = NO_KERNEL if op is None else color_of(op)
  tapered = any(edge.stride > 1 for edge in path.edges)
  return Box(path_lines(path), layer, color, tapered)


def _add_outputs(
  cell: Cell, boxes: dict[Node, Box], edges: list[tuple[Node, Node]]
) -> None:
  """Adds the concatenation, and what lies on the way to it."""
  last = max(box.layer for box in boxes.values())
  layer = last + (2 if any(path.edges for path in cell.outputs) else 1)
  for i, path in enumerate(cell.outputs):
    state: Node = ("state", path.source)
    if path.edges:
      boxes["output", i] = _path_box(path, layer - 1)
      edges.append((state, ("output", i)))
      state = ("output", i)
    # Two equal outputs are one line.
    if (state, "concat") not in edges:
      edges.append((state, "concat"))
  boxes["concat"] = Box(("cell k", "concatenation"), layer)


def _columns(boxes: Sequence[Box]) -> list[tuple[float, float]]:
  columns, x = [], 0.0
  for layer in range(1 + max(box.layer for box in boxes)):
    width = max((box.width for box in boxes if box.layer == layer), default=0.0)
    columns.append((x, width))
    x += width + BETWEEN
  return columns


def _draw_box(axes: Axes, box: Box, x: float, y: float) -> None:
  from matplotlib.patches import Circle

  if box.is_round:
    look = {"fc": box.color, "ec": INK, "lw": 0.9, "zorder": 2}
    axes.add_patch(Circle((x, y), NODE / 2, **look))
  else:
    # As steep for any number of lines: the text stays inside.
    taper = TAPER * (LINE + PADDING) / box.height if box.tapered else 0
    points = corners(x, y, box.width, box.height, taper)
    polygon(axes, points, box.color, edgecolor=INK)
  write(axes, x, y, "\n".join(box.lines), TEXT, linespacing=1.3)


def _draw_curve(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
  """A line that leaves each point, and comes to the next, horizontally."""
  from matplotlib.patches import PathPatch
  from matplotlib.path import Path as Line

  vertices, codes = [points[0]], [Line.MOVETO]
  for (x0, y0), (x1, y1) in itertools.pairwise(points):
    middle = (x0 + x1) / 2
    vertices += [(middle, y0), (middle, y1), (x1, y1)]
    codes += [Line.CURVE4] * 3
  line = Line(vertices, codes)
  look = {"fc": "none", "ec": FAINT, "lw": 1.0, "zorder": 1}
  axes.add_patch(PathPatch(line, **look))
