"""ShuffleNetV2: Ma et al., ECCV 2018, table 5."""

from __future__ import annotations

from proxyless_jax.space.edge import Edge, Size
from proxyless_jax.space.networks.chain import Chain, ChainBuilder
from proxyless_jax.space.ops.common import MaxPool, Norm, PlainConv
from proxyless_jax.space.ops.shuffle import ShuffleUnit

STEM_WIDTH = 24
DEPTHS = (4, 8, 4)
# Widths of the three stages and the head, by the published multipliers.
WIDTHS = {
  0.5: (48, 96, 192, 1024),
  1.0: (116, 232, 464, 1024),
  1.5: (176, 352, 704, 1024),
  2.0: (244, 488, 976, 2048),
}


def shufflenet_v2(
  *,
  width_mult: float = 1.0,
  image_size: Size = 224,
  channels: int = 3,
  classes: int = 1000,
) -> Chain:
  """ShuffleNetV2 of a published width.

  Args:
    width_mult: 0.5, 1.0, 1.5 or 2.0. The widths are those of the table, not
      multiples of each other.
    image_size: height and width of the images; one number for squares.
    channels: number of channels of the images.
    classes: number of classes.

  Raises:
    ValueError: another width.
  """
  if width_mult not in WIDTHS:
    raise ValueError(
      f"width_mult = {width_mult!r}: expected one of {[*WIDTHS]}"
    )
  *widths, head_width = WIDTHS[width_mult]
  chain = ChainBuilder(channels, image_size)
  norm = (Norm(relu=True),)
  before = (
    chain.add("stem", (PlainConv(3),), STEM_WIDTH, 2),
    chain.add("stem_norm", norm, STEM_WIDTH),
    chain.add("pool", (MaxPool(3),), STEM_WIDTH, 2),
  )
  units: list[Edge] = []
  for width, depth in zip(widths, DEPTHS):
    for i in range(depth):
      name, stride = f"unit{len(units) + 1:02d}", 2 if i == 0 else 1
      units.append(chain.add(name, (ShuffleUnit(3),), width, stride))
  after = (
    chain.add("head", (PlainConv(1),), head_width),
    chain.add("head_norm", norm, head_width),
    chain.add_classifier(classes),
  )
  return Chain(before, tuple(units), after)
