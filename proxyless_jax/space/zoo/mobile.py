"""MobileNetV2 and MnasNet: chains of MBConv blocks, not found here."""

from __future__ import annotations

from proxyless_jax.space.edge import Edge, Size
from proxyless_jax.space.networks.chain import Chain, ChainBuilder
from proxyless_jax.space.ops.mobile import ConvBN
from proxyless_jax.space.ops.names import parse_op
from proxyless_jax.space.spaces.mobile import mobile_space


def mobilenet_v2(
  *,
  width_mult: float = 1.0,
  image_size: Size = 224,
  channels: int = 3,
  classes: int = 1000,
) -> Chain:
  """Sandler et al., CVPR 2018, table 2: a mobile space of one candidate.

  Args:
    width_mult: factor of every width (of the head's only where above 1), each
      rounded to a multiple of 8.
    image_size: height and width of the images; one number for squares.
    channels: number of channels of the images.
    classes: number of classes.

  Raises:
    ValueError: the parts do not fit each other or the image.
  """
  return mobile_space(
    width_mult=width_mult,
    image_size=image_size,
    channels=channels,
    classes=classes,
    widths=(24, 32, 64, 96, 160, 320),
    depths=(2, 3, 4, 3, 3, 1),
    strides=(2, 2, 2, 1, 2, 1),
    candidates=("mbconv6_k3",),
  )


# A line per stage: block, width, depth, stride. Tan et al., CVPR 2019, figure
# 7; the details that it lacks are from tensorflow/tpu, models/official/mnasnet:
# a squeeze to a quarter of the block's input, a head of 1280, ReLU, all of B1.
MNASNET_A1 = """
  mbconv1_k3_relu      16 1 1
  mbconv6_k3_relu      24 2 2
  mbconv3_k5_se4_relu  40 3 2
  mbconv6_k3_relu      80 4 2
  mbconv6_k3_se4_relu 112 2 1
  mbconv6_k5_se4_relu 160 3 2
  mbconv6_k3_relu     320 1 1
"""
MNASNET_B1 = """
  mbconv1_k3_relu      16 1 1
  mbconv3_k3_relu      24 3 2
  mbconv3_k5_relu      40 3 2
  mbconv6_k5_relu      80 3 2
  mbconv6_k3_relu      96 2 1
  mbconv6_k5_relu     192 4 2
  mbconv6_k3_relu     320 1 1
"""


def mnasnet(
  stages: str,
  *,
  image_size: Size = 224,
  channels: int = 3,
  classes: int = 1000,
) -> Chain:
  """MnasNet: A1 or B1.

  Args:
    stages: a line per stage: block, width, depth, and stride of the first
      block.
    image_size: height and width of the images; one number for squares.
    channels: number of channels of the images.
    classes: number of classes.
  """
  chain = ChainBuilder(channels, image_size)
  stem = chain.add("stem", (ConvBN(3, "relu"),), 32, 2)
  blocks: list[Edge] = []
  for stage in stages.strip().splitlines():
    block, *numbers = stage.split()
    width, depth, stride = map(int, numbers)
    for i in range(depth):
      step = stride if i == 0 else 1
      keeps_shape = step == 1 and width == chain.features
      name = f"block{len(blocks):02d}"
      blocks.append(
        chain.add(name, (parse_op(block),), width, step, shortcut=keeps_shape)
      )
  head = chain.add("head", (ConvBN(1, "relu"),), 1280)
  classifier = chain.add_classifier(classes)
  return Chain((stem,), tuple(blocks), (head, classifier))
