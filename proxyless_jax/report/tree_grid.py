"""Small trees of many blocks, and how often each operation was chosen.

All lengths are in inches.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from proxyless_jax.report.looks import color_of
from proxyless_jax.report.shapes import (
  BANDS,
  FAINT,
  INK,
  MARGIN,
  WIDE,
  corners,
  polygon,
  runs,
  text_width,
  write,
)
from proxyless_jax.report.tree_diagram import (
  SMALL,
  draw_dots,
  draw_lines,
  draw_trees_of,
  trees_height,
  trees_width,
)
from proxyless_jax.space import Block, Op, Tree

if TYPE_CHECKING:
  from matplotlib.axes import Axes

STAGE = 0.32  # Above the blocks of a stage, for its size.
BAR, BARS = 0.42, 0.8  # Of a bar of shares, and from bar to bar.


class Placed(NamedTuple):
  """A block, its number from 1, its column, and how far down it is."""

  block: Block
  number: int
  column: int
  y: float


def look_of(op: Op) -> dict[str, Any]:
  """Look of an operation's box."""
  if op.name == "zero":
    return {"edgecolor": FAINT, "linestyle": (0, (2, 1.5))}
  return {"facecolor": color_of(op)}


def place_blocks(blocks: Sequence[Block]) -> tuple[list[Placed], float, float]:
  """Blocks in rows: their places, and the width and the height of all."""
  pitch = _pitch(blocks)
  tall = max(trees_height(block, SMALL) for block in blocks) + 0.62
  longest = max(1, int(WIDE // pitch))
  stages = [last + 1 - first for first, last, _ in _stages(blocks)]
  row = max(math.ceil(n / math.ceil(n / longest)) for n in stages)
  placed, y = [], 0.0
  for first, last, _ in _stages(blocks):
    y -= STAGE
    count = last + 1 - first
    for i in range(count):
      place = (i % row, y - i // row * tall)
      placed.append(Placed(blocks[first + i], first + i + 1, *place))
    y -= math.ceil(count / row) * tall
  return placed, row * pitch, -y


def _pitch(blocks: Sequence[Block]) -> float:
  """Least distance of blocks in a row."""
  caption = max(
    text_width(_caption(len(blocks), block), 6.5) for block in blocks
  )
  return 0.12 + max(caption, *(trees_width(block, SMALL) for block in blocks))


def _caption(number: int, block: Block) -> str:
  return (
    f"block {number}, {block.branch_norms[0].features_in} channels per tree"
  )


def draw_grid(
  axes: Axes,
  placed: Sequence[Placed],
  top: float,
  width: float,
  shorts: Mapping[str, str],
) -> None:
  """Draws the trees of blocks, with a band behind those of a size.

  Args:
    axes: where to draw.
    placed: blocks and their places.
    top: upper end.
    width: width of the bands.
    shorts: short text for each operation, by name.
  """
  tall = max(trees_height(place.block, SMALL) for place in placed) + 0.62
  stages = runs(placed, lambda place: place.block.conv.size_out)
  for i, (_, last, place) in enumerate(stages):
    high, low = top + place.y + STAGE, top + placed[last].y - tall
    x0, x1 = MARGIN, MARGIN + width
    points = [(x0, low), (x1, low), (x1, high), (x0, high)]
    polygon(axes, points, facecolor=BANDS[i % 2], zorder=0)
    rows, columns, _ = place.block.conv.shape_out
    size = f"{rows}×{columns}"
    write(axes, MARGIN + 0.07, high - 0.16, size, 8.5, ha="left", color=FAINT)
  count = 1 + max(place.column for place in placed)
  pitch = min(width / count, 1.3 * _pitch([place.block for place in placed]))
  for place in placed:
    x = MARGIN + 0.07 + place.column * pitch
    _draw_small(axes, place, (x, top + place.y), shorts)


def _draw_small(
  axes: Axes,
  place: Placed,
  corner: tuple[float, float],
  shorts: Mapping[str, str],
) -> None:
  """The trees of a block, from the split of its channels to their sum."""
  (x, y), block = corner, place.block
  text = _caption(place.number, block)
  write(axes, x, y - 0.08, text, 6.5, ha="left")
  middle = x + trees_width(block, SMALL) / 2
  roots, sums = draw_trees_of(
    axes, block, (x, y - 0.32), SMALL, lambda op: shorts[op.name]
  )
  split, end = (middle, y - 0.2), (middle, sums[0][1] - 0.12)
  lines = [(split, root) for root in roots] + [(at, end) for at in sums]
  draw_lines(axes, *lines)
  draw_dots(axes, [split, end], SMALL.dot)


def shares_height(network: Tree) -> float:
  """Height of `draw_shares`."""
  return STAGE + len(_stages(network.blocks)) * BARS


def draw_shares(
  axes: Axes,
  network: Tree,
  corner: tuple[float, float],
  width: float,
  shorts: Mapping[str, str],
) -> None:
  """Draws a bar for each stage: how many of its edges have each operation.

  Args:
    axes: where to draw.
    network: architecture.
    corner: upper left corner (x, y).
    width: width of the bars, with their names.
    shorts: short text for each operation, by name.
  """
  x, y = corner
  title = "Edges with each operation"
  write(axes, x, y - 0.1, title, 9, ha="left", weight="bold")
  y -= STAGE + BAR / 2
  ops = {edge.op.name: edge.op for edge in network.edges}
  left = x + 0.8
  room = width - 0.8
  for first, last, block in _stages(network.blocks):
    stage = network.blocks[first : last + 1]
    rows, columns, _ = block.conv.shape_out
    write(axes, x + 0.3, y, f"{rows}×{columns}", 8, color=FAINT)
    names = [edge.op.name for block in stage for edge in block.edges]
    counts, start = collections.Counter(names), left
    for name, short in shorts.items():
      part = room * counts[name] / len(names)
      points = corners(start + part / 2, y, part, BAR)
      if part:
        look = {"edgecolor": INK, "linewidth": 0.7, **look_of(ops[name])}
        polygon(axes, points, **look)
      for size, text in ((8, f"{short}: {counts[name]}"), (7, short)):
        if text_width(text, size) < 0.9 * part:
          write(axes, start + part / 2, y, text, size)
          break
      start += part
    y -= BARS


def _stages(blocks: Sequence[Block]) -> list[tuple[int, int, Block]]:
  """First index, last index and first block of each run of equal sizes."""
  return list(runs(blocks, lambda block: block.conv.size_out))
