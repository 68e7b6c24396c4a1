"""The CIFAR-10 space of ProxylessNAS: PyramidNets with searched trees.

Cai, Zhu, Han, ICLR 2019, section 4.1. All blocks are distinct, and grow wider
one by one, as in Han, Kim, Kim, Deep Pyramidal Residual Networks, CVPR 2017.
Everything is a parameter, so the same function makes small spaces.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from proxyless_jax.space.checks import (
  check_natural,
  check_per_stage,
  check_positive,
  expect,
)
from proxyless_jax.space.edge import Edge, Op, Size, as_size, height_width
from proxyless_jax.space.networks.chain import ChainBuilder
from proxyless_jax.space.networks.tree import Block, Tree
from proxyless_jax.space.ops.common import Norm, PlainConv
from proxyless_jax.space.ops.names import parse_candidates
from proxyless_jax.space.ops.tree import NormConv

CANDIDATES = (
  "identity",
  "sep_conv_3",
  "sep_conv_5",
  "sep_conv_7",
  "dil_conv_3",
  "max_pool_3",
  "avg_pool_3",
)


def tree_space(
  *,
  image_size: Size = 32,
  channels: int = 3,
  classes: int = 10,
  stem_width: int = 16,
  alpha: int = 84,
  depths: Sequence[int] = (18, 18, 18),
  expand: int = 4,
  halves: int = 2,
  levels: int = 2,
  branches: int = 2,
  candidates: Sequence[str | Op] = CANDIDATES,
  shuffle: bool = True,
) -> Tree:
  """The space of all choices of one candidate per edge of every tree.

  Block b of n is stem_width + alpha * b / n channels wide inside, to the
  nearest integer, then down to a multiple of `halves`; its output is `expand`
  times as wide. With the defaults that gives the released widths.

  Args:
    image_size: size of the images in pixels, an integer or (height, width).
    channels: number of channels of the images.
    classes: number of classes.
    stem_width: width of the 3x3 convolution that comes first.
    alpha: width of the last block minus that of the stem.
    depths: number of blocks per stage; every stage but the first halves the
      size.
    expand: width of a block's output over the width inside it.
    halves: number of parts of the 3x3 convolution's channels; each has a tree.
    levels: number of levels of a tree.
    branches: number of edges below each node of a tree.
    candidates: names or operations.
    shuffle: whether a channel shuffle follows each 3x3 convolution, so that
      every tree sees channels of all its groups; as in the released network.

  Raises:
    ValueError: the parts do not fit each other or the image.
  """
  check_per_stage(depths=depths)
  image_size = as_size("image_size", image_size)
  check_positive(channels=channels, classes=classes, stem_width=stem_width)
  check_positive(expand=expand, halves=halves, levels=levels, branches=branches)
  check_natural("alpha", alpha)
  expect(stem_width >= halves, "stem_width", stem_width, f"{halves} or more")
  expect(type(shuffle) is bool, "shuffle", shuffle, "True or False")
  _check_image(image_size, len(depths))
  # One group has nothing to mix with.
  conv = NormConv(3, groups=halves, shuffle=shuffle and halves > 1)
  candidates = parse_candidates(candidates)
  form = _Form(expand, conv, levels, branches, candidates)
  stem = Edge("stem", (PlainConv(3),), channels, stem_width, 1, image_size)
  norm = _keep("stem_norm", Norm(relu=False), stem)
  blocks = tuple(_blocks(norm, alpha, tuple(depths), form))
  last = _keep("last_norm", Norm(relu=True), blocks[-1].final_norm)
  chain = ChainBuilder(last.features_out, last.size_out)
  return Tree((stem, norm), blocks, (last, chain.add_classifier(classes)))


@dataclasses.dataclass(frozen=True)
class _Form:
  """The form that all blocks of a space share."""

  expand: int
  conv: NormConv
  levels: int
  branches: int
  candidates: tuple[Op, ...]

  @property
  def halves(self) -> int:
    return self.conv.groups


def _blocks(
  below: Edge, alpha: int, depths: tuple[int, ...], form: _Form
) -> Iterator[Block]:
  """The blocks that follow edge `below`."""
  stem_width, count = below.features_out, sum(depths)
  starts = set(itertools.accumulate(depths[:-1]))
  for i in range(count):
    # To the nearest integer first: else the released widths do not come out.
    grown = int(stem_width + alpha * (i + 1) / count + 0.5)
    width = grown // form.halves * form.halves
    stride = 2 if i in starts else 1
    block = _block(f"block{i + 1:02d}", below, width, stride, form)
    below = block.final_norm
    yield block


def _block(
  name: str, below: Edge, width: int, stride: int, form: _Form
) -> Block:
  """The block that follows edge `below`."""
  whole = form.halves * width
  in_bottleneck = Edge(
    f"{name}_in",
    (NormConv(1, relu=False),),
    *(below.features_out, width, 1, below.size_out),
  )
  conv = Edge(
    f"{name}_conv",
    (form.conv,),
    *(width, whole, stride, below.size_out),
  )
  size = conv.size_out
  edges = tuple(
    Edge(f"{name}_edge{path}", form.candidates, width, width, 1, size)
    for path in _paths(form)
  )
  branch_norms = tuple(
    Edge(f"{name}_norm{half}", (Norm(relu=False),), width, width, 1, size)
    for half in range(form.halves)
  )
  out_bottleneck = Edge(
    f"{name}_out", (NormConv(1),), width, form.expand * width, 1, size
  )
  final_norm = _keep(f"{name}_final_norm", Norm(relu=False), out_bottleneck)
  return Block(
    in_bottleneck,
    conv,
    edges,
    branch_norms,
    out_bottleneck,
    final_norm,
    form.branches,
  )


def _paths(form: _Form) -> Iterator[str]:
  """The way down to each edge: '0_1_0' is half 0, its edge 1, the first below.

  In the order of `Block.edges`.
  """
  for level in range(1, form.levels + 1):
    choices = [range(form.halves), *[range(form.branches)] * level]
    for path in itertools.product(*choices):
      yield "_".join(map(str, path))


def _keep(name: str, op: Op, below: Edge) -> Edge:
  """An edge that keeps the shape that edge `below` gives."""
  width = below.features_out
  return Edge(name, (op,), width, width, 1, below.size_out)


def _check_image(image_size: Size, stages: int) -> None:
  # Each stride of 2 turns n into ceil(n / 2), and needs n >= 2.
  smallest = 2 ** (stages - 2) + 1 if stages > 1 else 1
  expected = f"at least {smallest}, for {stages} stages"
  fits = min(height_width(image_size)) >= smallest
  expect(fits, "image_size", image_size, expected)
