"""The networks that Cai, Zhu and Han released with ProxylessNAS, ICLR 2019.

The ImageNet networks come from spaces wider than the released search's, each
with widths of its own, so each is described completely.
"""

from __future__ import annotations

import dataclasses

from proxyless_jax.space.edge import Size
from proxyless_jax.space.networks.chain import Chain
from proxyless_jax.space.spaces.mobile import mobile_space


@dataclasses.dataclass(frozen=True)
class Released:
  """A released ImageNet network, in the terms of `mobile_space`.

  Attributes:
    stem, first, head: widths of stem, first block and head.
    widths: width of each stage.
    blocks: {expand}x{kernel} of each block, 0 for a dropped one; a line per
      stage.
  """

  stem: int
  first: int
  head: int
  widths: tuple[int, ...]
  blocks: str


CPU = Released(
  stem=40,
  first=24,
  head=1432,
  widths=(32, 48, 88, 104, 216, 360),
  blocks="""
    6x3 3x3 3x3 3x3
    6x3 3x3 3x3 3x5
    6x3 0   0   3x3
    6x5 3x3 3x3 3x3
    6x5 3x5 3x5 3x3
    6x5
  """,
)
GPU = Released(
  stem=40,
  first=24,
  head=1728,
  widths=(32, 56, 112, 128, 256, 432),
  blocks="""
    3x5 0   0   0
    3x7 0   0   3x3
    6x7 0   0   3x5
    6x5 0   3x3 3x5
    6x7 6x7 6x7 6x5
    6x7
  """,
)
MOBILE = Released(
  stem=32,
  first=16,
  head=1280,
  widths=(32, 40, 80, 96, 192, 320),
  blocks="""
    3x5 3x3 0   0
    3x7 3x3 3x5 3x5
    6x7 3x5 3x5 3x5
    6x5 3x5 3x5 3x5
    6x7 6x7 3x7 3x7
    6x7
  """,
)
MOBILE_14 = dataclasses.replace(
  MOBILE,
  stem=48,
  first=24,
  head=1792,
  widths=(40, 56, 112, 136, 256, 448),
)


def imagenet(
  released: Released,
  *,
  image_size: Size = 224,
  channels: int = 3,
  classes: int = 1000,
) -> Chain:
  """A released ImageNet network, as an architecture of its space."""
  space = mobile_space(
    image_size=image_size,
    channels=channels,
    classes=classes,
    stem_width=released.stem,
    first_width=released.first,
    widths=released.widths,
    head_width=released.head,
  )
  names = [_candidate(block) for block in released.blocks.split()]
  return space.choose(names)


def _candidate(block: str) -> str:
  if block == "0":
    return "zero"
  expand, kernel = block.split("x")
  return f"mbconv{expand}_k{kernel}"
