"""The picture of a network of cells: an overview, and a diagram of each kind.

A diagram runs from left to right, as those of Liu et al., DARTS, ICLR 2019: the
outputs of the two cells before, boxes with the operations of the edges, nodes,
which add up what leads to them, and the concatenation. All lengths are in
inches.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from proxyless_jax.report.cell_diagram import (
  Diagram,
  main_op,
  make_diagram,
  path_lines,
)
from proxyless_jax.report.looks import color_of, words_of
from proxyless_jax.report.shapes import (
  FIXED,
  MARGIN,
  NO_KERNEL,
  TAPER,
  WIDE,
  Drawing,
  Legend,
  text_width,
  write,
)
from proxyless_jax.report.strip import (
  STRIP,
  Item,
  draw_strip,
  strip_pitch,
  strip_width,
)
from proxyless_jax.space import Cell, CellNetwork, Path
from proxyless_jax.space.edge import height_width
from proxyless_jax.space.networks.cells import Shape

if TYPE_CHECKING:
  from matplotlib.axes import Axes

GAP, TITLE = 0.6, 0.42


class Kind(NamedTuple):
  """Cells that are alike but for widths and inputs.

  Attributes:
    title: such as 'Normal cell: 0–5, 7–12'.
    diagram: how they are drawn.
  """

  title: str
  diagram: Diagram

  @property
  def width(self) -> float:
    return max(self.diagram.width, text_width(self.title, 9, True))


def draw_cells(network: CellNetwork) -> Drawing:
  """The drawing of a network of cells."""
  kinds, items = _kinds(network), _items(network)
  pitch = strip_pitch(len(items), WIDE)
  rows: list[list[Kind]] = [[]]
  for kind in kinds:
    if rows[-1] and _width([*rows[-1], kind]) > WIDE:
      rows.append([])
    rows[-1].append(kind)
  heights = [TITLE + max(k.diagram.height for k in row) for row in rows]
  width = max(strip_width(len(items), pitch), *map(_width, rows))

  def draw(axes: Axes, top: float) -> None:
    draw_strip(axes, items, network.image_shape, (MARGIN, top), pitch)
    y = top - STRIP - GAP / 2
    for row, height in zip(rows, heights):
      x = MARGIN
      for kind in row:
        write(axes, x, y - 0.1, kind.title, 9, ha="left", weight="bold")
        kind.diagram.draw(axes, (x, y - TITLE))
        x += kind.width + GAP
      y -= height + GAP

  count = len(network.cells)
  contents = "1 cell" if count == 1 else f"{count} cells"
  height = STRIP + sum(heights) + len(rows) * GAP
  return Drawing(contents, _legend(network), width, height, draw)


def _width(row: Sequence[Kind]) -> float:
  return sum(kind.width for kind in row) + (len(row) - 1) * GAP


def _items(network: CellNetwork) -> list[Item]:
  """The parts of the overview: stem, cells, and what follows them."""
  before = [Item(edge.shape_out, FIXED, edge.stride) for edge in network.before]
  after = [Item(edge.shape_out, FIXED, edge.stride) for edge in network.after]
  stem = network.before[-1]
  shapes, cells = [Shape(stem.size_out, stem.features_out)] * 2, []
  for i, cell in enumerate(network.cells):
    shapes = [shapes[1], cell.shape(shapes, f"cells[{i}]")]
    shape = (*height_width(shapes[1].size), shapes[1].features)
    cells.append(Item(shape, NO_KERNEL, 2 if _reduces(cell) else 1, str(i)))
  return [*before, *cells, *after]


def _reduces(cell: Cell) -> bool:
  paths = itertools.chain(*cell.nodes)
  return any(edge.stride > 1 for path in paths for edge in path.edges)


def _kinds(network: CellNetwork) -> list[Kind]:
  """Each kind of cell: normal ones first, then the most frequent."""
  alike: dict[Hashable, list[int]] = {}
  for i, cell in enumerate(network.cells):
    alike.setdefault(_form(cell), []).append(i)
  found = []
  for numbers in sorted(alike.values(), key=len, reverse=True):
    cells = [network.cells[i] for i in numbers]
    name = "Reduction" if _reduces(cells[0]) else "Normal"
    inputs = [_input_lines([c.inputs[i] for c in cells]) for i in range(2)]
    word = "cell" if len(numbers) == 1 else "cells"
    title = f"{name} cell: {word} {_ranges(numbers)}"
    found.append((name, Kind(title, make_diagram(cells[-1], inputs))))
  found.sort(key=lambda item: item[0])
  return [kind for _, kind in found]


def _form(cell: Cell) -> Hashable:
  """What the diagram of a cell shows, besides its inputs."""
  return tuple(
    tuple((path.source, _path_form(path)) for path in paths)
    for paths in (*cell.nodes, cell.outputs)
  )


def _path_form(path: Path) -> Hashable:
  return tuple((words_of(edge.op), edge.stride) for edge in path.edges)


def _input_lines(paths: Sequence[Path]) -> list[str]:
  """What an input passes first: the most frequent way, then the others."""
  ways = collections.Counter(path_lines(path) for path in paths)
  lines = [", ".join(way) for way, _ in ways.most_common()]
  if lines == ["identity"]:
    return []
  return [lines[0], *(f"or {line}" for line in lines[1:])]


def _ranges(numbers: Sequence[int]) -> str:
  """Such as '0–5, 7'."""
  parts = []
  for _, run in itertools.groupby(enumerate(numbers), lambda x: x[1] - x[0]):
    own = [number for _, number in run]
    parts.append(str(own[0]) if len(own) == 1 else f"{own[0]}–{own[-1]}")
  return ", ".join(parts)


def _legend(network: CellNetwork) -> Legend:
  """Colours of the operations, and the signs of the diagrams."""
  looks: dict[str, dict] = {}
  for cell in network.cells:
    for path in itertools.chain(*cell.nodes):
      op = main_op(path)
      if op is None:
        looks["identity"] = {"facecolor": NO_KERNEL}
      else:
        looks[words_of(op)] = {"facecolor": color_of(op)}
  entries: Legend = sorted(looks.items())
  if any(map(_reduces, network.cells)):
    entries.append(("stride 2", {"taper": TAPER}))
  entries.append(("stem, head, inputs and output", {"facecolor": FIXED}))
  entries.append(("circle: node, the sum of what leads to it", None))
  return entries
