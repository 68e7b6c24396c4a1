"""The picture of a PyramidNet with trees: an overview, and trees of all blocks.

A strip shows the blocks' widths and sizes. Few blocks are drawn in full; of
many, the first is, which explains the others: these are drawn as trees alone,
small, with a short text for each operation. All lengths are in inches.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from proxyless_jax.report.looks import color_of, words_of
from proxyless_jax.report.shapes import (
  BANDS,
  FAINT,
  FIXED,
  INK,
  MARGIN,
  NO_KERNEL,
  TAPER,
  WIDE,
  Drawing,
  Legend,
  corners,
  polygon,
  runs,
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
from proxyless_jax.report.tree_diagram import (
  SMALL,
  codes,
  draw_block,
  draw_dots,
  draw_lines,
  draw_trees_of,
  full_height,
  full_width,
  trees_height,
  trees_width,
)
from proxyless_jax.space import Block, Op, Tree

if TYPE_CHECKING:
  from matplotlib.axes import Axes

FEW = 4  # Blocks that are drawn in full.
GAP = 0.4  # Between parts of the figure.
STAGE = 0.32  # Above the blocks of a stage, for its size.
BAR, BARS = 0.42, 0.8  # Of a bar of shares, and from bar to bar.


# Width, height, and the function that draws it: see `Drawing`.
Picture = tuple[float, float, Callable[["Axes", float], None]]


class Placed(NamedTuple):
  """A block, its number from 1, its column, and how far down it is."""

  block: Block
  number: int
  column: int
  y: float


def draw_trees(network: Tree) -> Drawing:
  """The drawing of an architecture."""
  ops = {edge.op.name: edge.op for edge in network.edges}
  ops = dict(sorted(ops.items()))
  few = len(network.blocks) <= FEW
  width, height, draw = _few(network) if few else _many(network, codes(ops))
  names = [edge.op.name for edge in network.edges]
  count = len(network.blocks)
  contents = "1 block" if count == 1 else f"{count} blocks"
  contents += f", {len(names)} edges"
  if skipped := names.count("zero"):
    contents += f", {skipped} skipped"
  shorts = {} if few else codes(ops)
  legend: Legend = [
    (" = ".join([*filter(None, [shorts.get(name)]), words_of(op)]), _look(op))
    for name, op in ops.items()
  ]
  legend.append(("not searched", {"facecolor": FIXED}))
  if any(edge.stride == 2 for edge in network.layers):
    legend.append(("stride 2", {"taper": TAPER}))
  return Drawing(contents, legend, width, height, draw)


def _look(op: Op) -> dict:
  if op.name == "zero":
    return {"edgecolor": FAINT, "linestyle": (0, (2, 1.5))}
  return {"facecolor": color_of(op)}


def _items(network: Tree) -> list[Item]:
  """The parts of the overview: stem, blocks, and what follows them."""
  before = [Item(edge.shape_out, FIXED, edge.stride) for edge in network.before]
  after = [Item(edge.shape_out, FIXED, edge.stride) for edge in network.after]
  blocks = [
    Item(block.final_norm.shape_out, NO_KERNEL, block.conv.stride, str(i))
    for i, block in enumerate(network.blocks, 1)
  ]
  return [*before, *blocks, *after]


def _few(network: Tree) -> Picture:
  """Every block in full, below the overview."""
  blocks, items = network.blocks, _items(network)
  widths = [
    max(full_width(block), text_width(_title(i, block), 9, True)) + GAP
    for i, block in enumerate(blocks, 1)
  ]
  row = max(1, int(WIDE // max(widths)))
  pitch, tall = strip_pitch(len(items), WIDE), max(map(full_height, blocks))
  count = math.ceil(len(blocks) / row)

  def draw(axes: Axes, top: float) -> None:
    draw_strip(axes, items, network.image_shape, (MARGIN, top), pitch)
    for i, block in enumerate(blocks):
      x = MARGIN + i % row * max(widths)
      y = top - STRIP - GAP - i // row * (tall + GAP)
      draw_block(axes, block, _title(i + 1, block), (x, y))

  width = min(row, len(blocks)) * max(widths) - GAP
  width = max(width, strip_width(len(items), pitch))
  return width, STRIP + GAP + count * (tall + GAP), draw


def _title(number: int, block: Block) -> str:
  """Such as 'Block 1: 32×32, 16 → 72 channels'."""
  height, width, features = block.final_norm.shape_out
  before = block.in_bottleneck.features_in
  return f"Block {number}: {height}×{width}, {before} → {features} channels"


def _many(network: Tree, shorts: Mapping[str, str]) -> Picture:
  """The first block in full, the overview, then the trees of all blocks."""
  first, items = network.blocks[0], _items(network)
  placed, grid_width, grid_height = _grid(network.blocks)
  side = max(full_width(first), text_width(_title(1, first), 9, True)) + GAP
  pitch = strip_pitch(len(items), max(grid_width, WIDE) - side)
  width = max(grid_width, side + strip_width(len(items), pitch))
  upper = max(full_height(first), STRIP + GAP + _shares_height(network)) + GAP

  def draw(axes: Axes, top: float) -> None:
    draw_block(axes, first, _title(1, first), (MARGIN, top))
    x = MARGIN + side
    draw_strip(axes, items, network.image_shape, (x, top), pitch)
    corner = (x, top - STRIP - GAP)
    _draw_shares(axes, network, corner, MARGIN + width - x, shorts)
    _draw_grid(axes, placed, top - upper, width, shorts)

  return width, upper + grid_height + MARGIN, draw


def _grid(blocks: Sequence[Block]) -> tuple[list[Placed], float, float]:
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


def _draw_grid(
  axes: Axes,
  placed: Sequence[Placed],
  top: float,
  width: float,
  shorts: Mapping[str, str],
) -> None:
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


def _shares_height(network: Tree) -> float:
  return STAGE + len(_stages(network.blocks)) * BARS


def _draw_shares(
  axes: Axes,
  network: Tree,
  corner: tuple[float, float],
  width: float,
  shorts: Mapping[str, str],
) -> None:
  """A bar for each stage: how many of its edges have each operation."""
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
        polygon(axes, points, edgecolor=INK, linewidth=0.7, **_look(ops[name]))
      for size, text in ((8, f"{short}: {counts[name]}"), (7, short)):
        if text_width(text, size) < 0.9 * part:
          write(axes, start + part / 2, y, text, size)
          break
      start += part
    y -= BARS


def _stages(blocks: Sequence[Block]) -> list[tuple[int, int, Block]]:
  """First index, last index and first block of each run of equal sizes."""
  return list(runs(blocks, lambda block: block.conv.size_out))
