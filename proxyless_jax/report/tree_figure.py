"""The picture of a PyramidNet with trees: an overview, and trees of blocks.

A strip shows the blocks' widths and sizes. Few blocks are drawn in full; of
many, the first is, which explains the others: these are drawn as trees alone,
small, with a short text for each operation. Of a space whose edges all have the
same candidates, one block tells everything. All lengths are in inches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from proxyless_jax.report.looks import words_of
from proxyless_jax.report.shapes import (
  FIXED,
  MARGIN,
  NO_KERNEL,
  TAPER,
  WIDE,
  Drawing,
  Legend,
  text_width,
)
from proxyless_jax.report.strip import (
  STRIP,
  Item,
  draw_strip,
  strip_pitch,
  strip_width,
)
from proxyless_jax.report.tree_block import draw_block, full_height, full_width
from proxyless_jax.report.tree_diagram import codes
from proxyless_jax.report.tree_grid import (
  draw_grid,
  draw_shares,
  look_of,
  place_blocks,
  shares_height,
)
from proxyless_jax.space import Block, Op, Tree

if TYPE_CHECKING:
  from matplotlib.axes import Axes

FEW = 4  # Blocks that are drawn in full.
GAP = 0.4  # Between parts of the figure.


# Width, height, and the function that draws it: see `Drawing`.
Picture = tuple[float, float, Callable[["Axes", float], None]]


def draw_trees(network: Tree) -> Drawing:
  """The drawing of an architecture, or of a space."""
  ops = {op.name: op for edge in network.edges for op in edge.ops}
  ops = dict(sorted(ops.items()))
  count, shorts = len(network.blocks), codes(ops)
  is_alike = not network.is_architecture and _is_alike(network)
  if is_alike or count <= FEW:
    shorts = {}
    picture = _full(network, network.blocks[: 1 if is_alike else None])
  else:
    picture = _small(network, shorts)
  contents = "1 block" if count == 1 else f"{count} blocks"
  contents += f", {len(network.edges)} edges"
  names = [edge.ops[0].name for edge in network.edges if len(edge.ops) == 1]
  if skipped := names.count("zero"):
    contents += f", {skipped} skipped"
  legend = _legend(network, ops, shorts)
  if is_alike and count > 1:
    legend.append(("the other blocks: as the first one", None))
  return Drawing(contents, legend, *picture)


def _is_alike(network: Tree) -> bool:
  """Whether all edges have the same candidates."""
  return len({edge.ops for edge in network.edges}) == 1


def _legend(
  network: Tree, ops: Mapping[str, Op], shorts: Mapping[str, str]
) -> Legend:
  legend: Legend = []
  words = [words_of(op) for op in ops.values()]
  for (name, op), text in zip(ops.items(), words):
    if words.count(text) > 1:  # They differ in what words leave out.
      text = name.replace("_", " ")
    if name in shorts:
      text = f"{shorts[name]} = {text}"
    legend.append((text, look_of(op)))
  legend.append(("not searched", {"facecolor": FIXED}))
  if any(edge.stride == 2 for edge in network.layers):
    legend.append(("stride 2", {"taper": TAPER}))
  if not network.is_architecture:
    legend.append(("rows: the candidates of an edge", None))
  return legend


def _items(network: Tree) -> list[Item]:
  """The parts of the overview: stem, blocks, and what follows them."""
  before = [Item(edge.shape_out, FIXED, edge.stride) for edge in network.before]
  after = [Item(edge.shape_out, FIXED, edge.stride) for edge in network.after]
  blocks = [
    Item(block.final_norm.shape_out, NO_KERNEL, block.conv.stride, str(i))
    for i, block in enumerate(network.blocks, 1)
  ]
  return [*before, *blocks, *after]


def _full(network: Tree, blocks: Sequence[Block]) -> Picture:
  """The first blocks of a network in full, below the overview."""
  items = _items(network)
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


def _small(network: Tree, shorts: Mapping[str, str]) -> Picture:
  """The first block in full, the overview, then the trees of all blocks."""
  first, items = network.blocks[0], _items(network)
  placed, grid_width, grid_height = place_blocks(network.blocks)
  side = max(full_width(first), text_width(_title(1, first), 9, True)) + GAP
  pitch = strip_pitch(len(items), max(grid_width, WIDE) - side)
  width = max(grid_width, side + strip_width(len(items), pitch))
  upper = max(full_height(first), STRIP + GAP + shares_height(network)) + GAP

  def draw(axes: Axes, top: float) -> None:
    draw_block(axes, first, _title(1, first), (MARGIN, top))
    x = MARGIN + side
    draw_strip(axes, items, network.image_shape, (x, top), pitch)
    corner = (x, top - STRIP - GAP)
    if network.is_architecture:
      draw_shares(axes, network, corner, MARGIN + width - x, shorts)
    draw_grid(axes, placed, top - upper, width, shorts)

  return width, upper + grid_height + MARGIN, draw
