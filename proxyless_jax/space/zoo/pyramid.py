"""PyramidNet for CIFAR with bottleneck blocks, and ShakeDrop on it.

Han, Kim, Kim, CVPR 2017; Yamada, Iwamura, Akiba, Kise, IEEE Access 2019.
"""

from __future__ import annotations

import math
from fractions import Fraction

from proxyless_jax.space.checks import check_number, expect
from proxyless_jax.space.edge import Size
from proxyless_jax.space.networks.chain import Chain, ChainBuilder
from proxyless_jax.space.ops.common import Norm, PlainConv
from proxyless_jax.space.ops.pyramid import EXPAND, PyramidBlock
from proxyless_jax.space.zoo.cifar import STAGES, blocks_per_stage

STEM = 16


def pyramidnet(
  *,
  alpha: float = 200,
  depth: int = 272,
  shakedrop: bool = False,
  image_size: Size = 32,
  channels: int = 3,
  classes: int = 10,
) -> Chain:
  """Additive PyramidNet: every block is wider than the one before it.

  Args:
    alpha: number of channels that all blocks together add to the stem's 16,
      before the bottleneck's factor of 4.
    depth: 2 more than a multiple of 9.
    shakedrop: whether residual branches are perturbed in training; the
      probability that a block survives falls linearly, to 1/2 at the last one.
    image_size: height and width of the images; one number for squares.
    channels: number of channels of the images.
    classes: number of classes.

  Raises:
    ValueError: an invalid alpha or depth, or an image that is too small.
  """
  check_number("alpha", alpha)
  boolean = isinstance(shakedrop, bool)
  expect(boolean, "shakedrop", shakedrop, "true or false")
  blocks = blocks_per_stage(depth, outside=2, layers=3)
  count = STAGES * blocks
  chain = ChainBuilder(channels, image_size)
  stem = chain.add("stem", (PlainConv(3),), STEM)
  stem_norm = chain.add("stem_norm", (Norm(relu=False),), STEM)
  edges = []
  for i in range(1, count + 1):
    survival = Fraction(2 * count - i, 2 * count) if shakedrop else Fraction(1)
    # Half a channel is rounded up, as in Torch's code, the authors' first.
    width = EXPAND * math.floor(STEM + alpha * i / count + 0.5)
    stride = 2 if i in (blocks + 1, 2 * blocks + 1) else 1
    ops = (PyramidBlock(survival),)
    edges.append(chain.add(f"block{i:02d}", ops, width, stride))
  norm = chain.add("norm", (Norm(relu=True),), chain.features)
  classifier = chain.add_classifier(classes)
  return Chain((stem, stem_norm), tuple(edges), (norm, classifier))
