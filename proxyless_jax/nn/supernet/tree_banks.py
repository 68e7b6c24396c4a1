"""Runs of tree blocks that a supernet compiles once.

The blocks of a PyramidNet grow wider by a few channels each, so no two are
alike, and a program for each of 54 would take an hour to compile. A supernet
stores neighbours as if all had the same width, the next multiple of `STEP`:
their variables have zeros for the channels that a block lacks. Such channels
are zero wherever they go, and so is the gradient of each of those variables: an
optimizer leaves them at zero, and the block computes what it would alone.

The channel shuffle after a block's 3x3 convolution is the one operation that
moves channels, zeros among them: `tree` then moves the own channels of each
half back in front of its zeros.

Architectures have the widths that they are described with.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from proxyless_jax.nn.supernet import bank
from proxyless_jax.space import (
  AvgPool,
  Block,
  Edge,
  Identity,
  MaxPool,
  Norm,
  NormConv,
  NormSepConv,
  Tree,
)

# Floats of an AVX register, or channels that a tensor core takes at once: up to
# here, more channels cost next to nothing.
STEP = 8

# Operations whose output is zero in channels in which input and variables are.
KEEPS_ZEROS = (AvgPool, Identity, MaxPool, NormSepConv)


@dataclasses.dataclass(frozen=True)
class BlockRun:
  """Consecutive blocks that one program runs.

  Attributes:
    blocks: blocks as the space describes them.
    form: block that all are stored as, with the names of the first.
  """

  blocks: tuple[Block, ...]
  form: Block

  @functools.cached_property
  def banks(self) -> tuple[bank.Bank, ...]:
    """A bank for each edge outside the trees, then one for the trees' edges."""
    conv, halves = self.form.conv, len(self.form.branch_norms)
    # Blocks with another convolution are stored with their own widths.
    groups = conv.op.groups if isinstance(conv.op, NormConv) else 1
    segments = {
      self.form.in_bottleneck.name: (1, groups),
      conv.name: (groups, halves),
    }
    searched = {edge.name for edge in self.form.edges}
    columns = zip(*(block.layers for block in self.blocks))
    trunk = [
      bank.Bank(e.name, edges, bank.nameless(e), segments.get(e.name, (1, 1)))
      for e, edges in zip(self.form.layers, columns)
      if e.name not in searched
    ]
    first = self.form.edges[0]
    edges = tuple(edge for block in self.blocks for edge in block.edges)
    return (*trunk, bank.Bank(first.name, edges, bank.nameless(first)))


@bank.banks.register
def _(network: Tree) -> tuple[bank.Bank, ...]:
  if network.is_architecture:
    return ()
  return tuple(b for run in block_runs(network) for b in run.banks)


@functools.lru_cache(maxsize=64)
def block_runs(space: Tree) -> tuple[BlockRun, ...]:
  """The runs of a space's blocks, in order.

  Args:
    space: search space of trees.

  Raises:
    ValueError: edges of a block have different candidates.
  """
  runs: list[BlockRun] = []
  for block in space.blocks:
    _check_alike(block)
    longer = _join(runs[-1], block) if runs else None
    if longer is None:
      runs.append(BlockRun((block,), _stored((block,))[0]))
    else:
      runs[-1] = longer
  return tuple(runs)


def _check_alike(block: Block) -> None:
  first = block.edges[0]
  for edge in block.edges:
    if edge.ops != first.ops:
      raise ValueError(
        f"edge {edge.name!r}: candidates {[op.name for op in edge.ops]}: "
        f"expected those of {first.name!r}, {[op.name for op in first.ops]}: a "
        "supernet runs all edges of a block by one program"
      )


def _join(run: BlockRun, block: Block) -> BlockRun | None:
  """The run with one more block, where they can be stored alike."""
  blocks = (*run.blocks, block)
  if block.conv.stride > 1 or run.form.conv.stride > 1:
    return None
  form, *others = _stored(blocks)
  same_width = form.branch_norms == run.form.branch_norms
  keeps = form.in_bottleneck.features_in == form.final_norm.features_out
  alike = keeps and same_width and all(other == form for other in others)
  return BlockRun(blocks, form) if alike else None


def _stored(blocks: Sequence[Block]) -> list[Block]:
  """The blocks, each as it would be stored in one run with the others."""
  inner, half, outer = (
    _round_up(max(width(block) for block in blocks))
    if all(map(_keeps_zeros, blocks))
    else None
    for width in (
      lambda block: block.in_bottleneck.features_out,
      lambda block: block.branch_norms[0].features_in,
      lambda block: block.final_norm.features_out,
    )
  )
  return [_widened(block, blocks[0], inner, half, outer) for block in blocks]


def _round_up(width: int) -> int:
  return -(-width // STEP) * STEP


def _keeps_zeros(block: Block) -> bool:
  """Whether the block's channels may be followed by zeros, half by half."""
  first, last = block.in_bottleneck.op, block.out_bottleneck.op
  conv = block.conv.op
  norms = (*block.branch_norms, block.final_norm)
  halves = len(block.branch_norms)
  return (
    isinstance(first, NormConv)
    and isinstance(conv, NormConv)
    and isinstance(last, NormConv)
    and first.groups == last.groups == 1
    and conv.groups in (1, halves)
    # Each half must be able to end in zeros of its own.
    and STEP % halves == 0
    and all(isinstance(edge.op, Norm) for edge in norms)
    and all(
      isinstance(op, KEEPS_ZEROS) for edge in block.edges for op in edge.ops
    )
  )


def _widened(
  block: Block,
  names: Block,
  inner: int | None,
  half: int | None,
  outer: int | None,
) -> Block:
  """The block with other widths, None for its own, and another's names."""

  def edge(
    own: Edge, like: Edge, features_in: int | None, features_out: int | None
  ) -> Edge:
    return dataclasses.replace(
      own,
      name=like.name,
      features_in=features_in or own.features_in,
      features_out=features_out or own.features_out,
    )

  halves = len(block.branch_norms)
  whole = half and halves * half
  return dataclasses.replace(
    block,
    in_bottleneck=edge(block.in_bottleneck, names.in_bottleneck, outer, inner),
    conv=edge(block.conv, names.conv, inner, whole),
    edges=tuple(
      edge(*pair, half, half) for pair in zip(block.edges, names.edges)
    ),
    branch_norms=tuple(
      edge(*pair, half, half)
      for pair in zip(block.branch_norms, names.branch_norms)
    ),
    out_bottleneck=edge(
      block.out_bottleneck, names.out_bottleneck, half, outer
    ),
    final_norm=edge(block.final_norm, names.final_norm, outer, outer),
  )
