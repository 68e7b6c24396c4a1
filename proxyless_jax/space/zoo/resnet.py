"""ResNet-18 and ResNet-34: He et al., CVPR 2016, table 1."""

from __future__ import annotations

from proxyless_jax.space.edge import Edge, Size
from proxyless_jax.space.networks.chain import Chain, ChainBuilder
from proxyless_jax.space.ops.common import MaxPool, Norm, PlainConv
from proxyless_jax.space.ops.resnet import BasicBlock

WIDTHS = (64, 128, 256, 512)
DEPTHS_18 = (2, 2, 2, 2)
DEPTHS_34 = (3, 4, 6, 3)


def resnet(
  depths: tuple[int, ...],
  *,
  image_size: Size = 224,
  channels: int = 3,
  classes: int = 1000,
) -> Chain:
  """A ResNet of basic blocks.

  Args:
    depths: number of blocks of each of the four stages.
    image_size: height and width of the images; one number for squares.
    channels: number of channels of the images.
    classes: number of classes.
  """
  chain = ChainBuilder(channels, image_size)
  before = (
    chain.add("stem", (PlainConv(7),), WIDTHS[0], 2),
    chain.add("stem_norm", (Norm(relu=True),), WIDTHS[0]),
    chain.add("pool", (MaxPool(3),), WIDTHS[0], 2),
  )
  blocks: list[Edge] = []
  for width, depth in zip(WIDTHS, depths):
    for i in range(depth):
      name = f"block{len(blocks) + 1:02d}"
      # The first stage follows the pooling: it keeps size and width.
      stride = 2 if i == 0 and width != chain.features else 1
      blocks.append(chain.add(name, (BasicBlock(),), width, stride))
  classifier = chain.add_classifier(classes)
  return Chain(before, tuple(blocks), (classifier,))
