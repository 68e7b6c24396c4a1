"""The ImageNet space of ProxylessNAS: a chain of searched MBConv blocks.

Cai, Zhu, Han, ICLR 2019, with the released settings as defaults. Everything is
a parameter, so the same function makes small spaces for small images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from proxyless_jax.space.checks import (
  check_natural,
  check_per_stage,
  check_positive,
  expect,
)
from proxyless_jax.space.edge import Edge, Op, Size, as_size, height_width
from proxyless_jax.space.networks.chain import Chain, ChainBuilder
from proxyless_jax.space.ops.mobile import ConvBN, MBConv, Zero
from proxyless_jax.space.ops.names import parse_candidates

CANDIDATES = (
  "mbconv3_k3",
  "mbconv3_k5",
  "mbconv3_k7",
  "mbconv6_k3",
  "mbconv6_k5",
  "mbconv6_k7",
  "zero",
)


def round_width(width: float, divisor: int = 8) -> int:
  """`width` rounded to a multiple of `divisor`, never down by over 10 %."""
  rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
  return rounded if rounded >= 0.9 * width else rounded + divisor


def mobile_space(
  *,
  width_mult: float = 1.0,
  image_size: Size = 224,
  channels: int = 3,
  classes: int = 1000,
  stem_width: int = 32,
  stem_stride: int = 2,
  first_width: int = 16,
  first_expand: int = 1,
  first_kernel: int = 3,
  widths: Sequence[int] = (24, 40, 80, 96, 192, 320),
  depths: Sequence[int] = (4, 4, 4, 4, 4, 1),
  strides: Sequence[int] = (2, 2, 2, 1, 2, 1),
  candidates: Sequence[str | Op] = CANDIDATES,
  head_width: int = 1280,
) -> Chain:
  """The space of all choices of one candidate per block.

  Args:
    width_mult: factor of every width (of the head's only where above 1), each
      rounded to a multiple of 8.
    image_size: size of the images in pixels, an integer or (height, width).
    channels: number of channels of the images.
    classes: number of classes.
    stem_width: width of the 3x3 convolution that comes first.
    stem_stride: stride of the 3x3 convolution that comes first.
    first_width: width of the first block, which is not searched; 0 for none.
    first_expand: expansion of the first block.
    first_kernel: kernel of the first block's depthwise convolution.
    widths: width of the blocks of each stage.
    depths: number of blocks of each stage.
    strides: stride of the first block of each stage.
    candidates: names or operations. 'zero' becomes a candidate only of blocks
      that keep size and width.
    head_width: width of the 1x1 convolution before the classifier.

  Raises:
    ValueError: the parts do not fit each other or the image.
  """
  check_per_stage(widths=widths, depths=depths, strides=strides)
  image_size = as_size("image_size", image_size)
  check_positive(channels=channels, classes=classes, stem_width=stem_width)
  check_positive(stem_stride=stem_stride, head_width=head_width)
  check_natural("first_width", first_width)
  number = isinstance(width_mult, int | float) and 0.0 < width_mult < math.inf
  expect(number, "width_mult", width_mult, "a positive number")
  _check_image(image_size, (stem_stride, *strides))
  ops = _parse_candidates(candidates)
  chain = ChainBuilder(channels, image_size)
  width = round_width(stem_width * width_mult)
  before = [chain.add("stem", (ConvBN(3),), width, stem_stride)]
  if first_width:
    first = (_first(first_expand, first_kernel),)
    width = round_width(first_width * width_mult)
    before.append(_add_block(chain, "block00", first, width, 1))
  widths = [round_width(width * width_mult) for width in widths]
  edges = _add_stages(chain, ops, zip(widths, depths, strides))
  head_width = round_width(head_width * max(1.0, width_mult))
  head = chain.add("head", (ConvBN(1),), head_width)
  return Chain(tuple(before), edges, (head, chain.add_classifier(classes)))


def _first(expand: int, kernel: int) -> MBConv:
  try:
    return MBConv(expand, kernel)
  except ValueError as error:
    raise ValueError(f"first_{error}") from error


def _check_image(image_size: Size, strides: Sequence[int]) -> None:
  smallest = 1
  for stride in reversed(strides):
    # An edge of stride s turns size n into ceil(n / s), and needs n >= s.
    smallest = max(stride, (smallest - 1) * stride + 1)
  if min(height_width(image_size)) < smallest:
    raise ValueError(
      f"image_size = {image_size}: expected at least {smallest} for the "
      f"strides {strides} of stem and stages: use larger images, or strides "
      "of 1"
    )


def _parse_candidates(candidates: Sequence[str | Op]) -> tuple[Op, ...]:
  ops = parse_candidates(candidates)
  names = [op.name for op in ops]
  if len(set(names)) < len(names) or not set(names) - {Zero.name}:
    raise ValueError(
      f"candidates = {names}: expected different operations, at least one "
      "besides 'zero'"
    )
  return ops


def _add_stages(
  chain: ChainBuilder,
  ops: tuple[Op, ...],
  stages: Iterable[tuple[int, int, int]],
) -> tuple[Edge, ...]:
  """The searched blocks of stages of (width, depth, stride)."""
  edges: list[Edge] = []
  for width, depth, stride in stages:
    for i in range(depth):
      name = f"block{len(edges) + 1:02d}"
      step = stride if i == 0 else 1
      edges.append(_add_block(chain, name, ops, width, step))
  return tuple(edges)


def _add_block(
  chain: ChainBuilder, name: str, ops: tuple[Op, ...], width: int, stride: int
) -> Edge:
  shortcut = stride == 1 and chain.features == width
  if not shortcut:
    ops = tuple(op for op in ops if op.name != Zero.name)
  return chain.add(name, ops, width, stride, shortcut)
