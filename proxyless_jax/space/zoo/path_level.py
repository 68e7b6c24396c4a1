"""PathLevel-EAS: Cai, Yang, Zhang, Han, Yu, ICML 2018 (arXiv 1806.02639)."""

from __future__ import annotations

from proxyless_jax.space.checks import check_number, check_positive
from proxyless_jax.space.edge import Size
from proxyless_jax.space.networks.chain import Chain, ChainBuilder
from proxyless_jax.space.ops.common import Norm, PlainConv
from proxyless_jax.space.ops.path_level import EXPAND, TreeCellBlock

STEM = 16
GROUPS = 2
STAGES = 3


def path_level_eas(
  *,
  image_size: Size = 32,
  channels: int = 3,
  classes: int = 10,
  alpha: float = 150,
  blocks: int = 18,
) -> Chain:
  """TreeCell-A with PyramidNet (N=18, alpha=150, G=2): 14.3M parameters.

  14,273,454 here; alpha=84, of 5.7M, has 5,724,330. (The authors' README has
  both figures.) Nodes of a tree take the mean of their branches and have no
  batch norms of their own, as the code's defaults say; how the released
  weights were configured is not in the repository. With the optional norms
  beside the root it would be 14,293,302. The dropping of paths that the last
  row's training has is not here.

  Args:
    image_size: height and width of the images; one number for squares.
    channels: number of channels of the images.
    classes: number of classes.
    alpha: number of channels that all blocks together add to the stem's 16,
      before the bottleneck's factor of 4.
    blocks: number of blocks in each of the three stages.

  Raises:
    ValueError: an invalid alpha or number of blocks.
  """
  check_positive(blocks=blocks)
  check_number("alpha", alpha)
  chain = ChainBuilder(channels, image_size)
  stem = chain.add("stem", (PlainConv(3),), STEM)
  stem_norm = chain.add("stem_norm", (Norm(relu=False),), STEM)
  edges = []
  for i in range(STAGES * blocks):
    grown = round(STEM + alpha * (i + 1) / (STAGES * blocks))
    width = EXPAND * (grown - grown % GROUPS)
    stride = 2 if i in (blocks, 2 * blocks) else 1
    op = TreeCellBlock()
    edges.append(chain.add(f"block{i + 1:02d}", (op,), width, stride))
  norm = chain.add("norm", (Norm(relu=True),), chain.features)
  classifier = chain.add_classifier(classes)
  return Chain((stem, stem_norm), tuple(edges), (norm, classifier))
