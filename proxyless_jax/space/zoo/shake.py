"""Shake-Shake networks for CIFAR: Gastaldi, 2017 (arXiv:1705.07485)."""

from __future__ import annotations

from proxyless_jax.space.checks import expect
from proxyless_jax.space.edge import Edge, Size
from proxyless_jax.space.networks.chain import Chain, ChainBuilder
from proxyless_jax.space.ops.common import Norm, PlainConv, Relu
from proxyless_jax.space.ops.shake import ShakeBlock
from proxyless_jax.space.zoo.cifar import STAGES, blocks_per_stage

STEM = 16


def shake_shake(
  *,
  width: int = 96,
  depth: int = 26,
  image_size: Size = 32,
  channels: int = 3,
  classes: int = 10,
) -> Chain:
  """Shake-Shake-Image: `depth` 2x`width`d in the paper's terms.

  Args:
    width: width of the first stage; each of the two later ones doubles it.
    depth: 2 more than a multiple of 6.
    image_size: height and width of the images; one number for squares.
    channels: number of channels of the images.
    classes: number of classes.

  Raises:
    ValueError: an invalid width or depth, or an image that is too small.
  """
  fits = type(width) is int and width > 1
  expect(fits, "width", width, "an integer above 1")
  blocks = blocks_per_stage(depth, outside=2, layers=2)
  chain = ChainBuilder(channels, image_size)
  stem = chain.add("stem", (PlainConv(3),), STEM)
  stem_norm = chain.add("stem_norm", (Norm(relu=False),), STEM)
  edges: list[Edge] = []
  for stage in range(STAGES):
    for i in range(blocks):
      stride = 2 if stage and not i else 1
      name = f"block{len(edges) + 1:02d}"
      edges.append(chain.add(name, (ShakeBlock(),), width << stage, stride))
  relu = chain.add("relu", (Relu(),), chain.features)
  classifier = chain.add_classifier(classes)
  return Chain((stem, stem_norm), tuple(edges), (relu, classifier))
