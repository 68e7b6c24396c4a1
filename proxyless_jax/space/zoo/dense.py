"""DenseNet-BC for CIFAR: Huang, Liu, van der Maaten, Weinberger, CVPR 2017.

Published for CIFAR-10 with standard augmentation, without dropout.
"""

from __future__ import annotations

from proxyless_jax.space.checks import check_positive
from proxyless_jax.space.edge import Size
from proxyless_jax.space.networks.chain import Chain, ChainBuilder
from proxyless_jax.space.ops.common import Norm, PlainConv
from proxyless_jax.space.ops.dense import DenseLayer, DenseTransition
from proxyless_jax.space.zoo.cifar import STAGES, blocks_per_stage


def densenet_bc(
  *,
  growth: int = 40,
  depth: int = 190,
  image_size: Size = 32,
  channels: int = 3,
  classes: int = 10,
) -> Chain:
  """DenseNet-BC: bottleneck layers, and compression by half.

  Args:
    growth: k, the number of channels that each layer adds.
    depth: L, 4 more than a multiple of 6.
    image_size: height and width of the images; one number for squares.
    channels: number of channels of the images.
    classes: number of classes.

  Raises:
    ValueError: an invalid growth or depth, or an image that is too small.
  """
  check_positive(growth=growth)
  layers = blocks_per_stage(depth, outside=4, layers=2)
  chain = ChainBuilder(channels, image_size)
  stem = chain.add("stem", (PlainConv(3),), 2 * growth)
  edges = []
  for stage in range(1, STAGES + 1):
    if stage > 1:
      transition = (DenseTransition(),)
      width = chain.features // 2
      edges.append(chain.add(f"transition{stage - 1}", transition, width, 2))
    for i in range(1, layers + 1):
      width = chain.features + growth
      edges.append(chain.add(f"dense{stage}_{i:02d}", (DenseLayer(4),), width))
  norm = chain.add("norm", (Norm(relu=True),), chain.features)
  classifier = chain.add_classifier(classes)
  return Chain((stem,), tuple(edges), (norm, classifier))
