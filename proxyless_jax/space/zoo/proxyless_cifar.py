"""The network that Cai, Zhu and Han released for CIFAR-10, ICLR 2019.

Found by gradient (Proxyless-G); 2.08 % test error, with cutout, in the paper.
"""

from __future__ import annotations

from proxyless_jax.space.edge import Size
from proxyless_jax.space.networks.tree import Tree
from proxyless_jax.space.spaces.tree import tree_space

CANDIDATES = {
  "i": "identity",
  "3": "sep_conv_3",
  "5": "sep_conv_5",
  "7": "sep_conv_7",
  "d": "dil_conv_3",
  "m": "max_pool_3",
  "a": "avg_pool_3",
}
# The released network, a word per block, a paragraph per stage: the upper level
# of the block's two trees, a dash, the lower level.
BLOCKS = """
  7m5d-di7m5577 aim7-aa3ididd 7i3d-3a5a3ad5 a5d7-5d3d73i7 ai7m-5dd57aim
  7ma7-7m35d3ii dm77-im7753ii ddm5-5757aa37 7dmm-5mii3aad 5i3i-3i375757
  7adi-7535add3 5da5-a53377d3 mm3m-737da57i 375d-md7di373 daai-m3dd5i5i
  5id5-d5aa5573 75id-55d3m737 md7m-ii3i57id

  dm5a-5aa773am 7ddm-i7i737m5 mdmm-a3idm5ia da3a-73a37idd dm7d-ma7idiam
  75mi-m7miadm7 i5dd-a5m57adm 3id3-adddaaa3 d7mm-m7im555d 37m7-73ai37mm
  7533-77a3ida3 5ia7-aia53aam i3ia-adi77mid 7mm7-5i7ddm77 3753-m3i3i35i
  d73i-d3d73dmi mi37-i55aaiad 7m73-75da7555

  aa7i-aada5iia m7ii-ia5iai7i d3ai-7mi53ima 77mi-a5a3a3mm iiim-a7i7a5a7
  di75-5im5d7id mmda-iaami53i 77d7-577a3m7a da7d-dmd3idm5 addi-am3m7dai
  mm5d-a733aii3 5dm7-7dim35mi 77m5-3mdamm5m m553-iad37377 i3i7-a577773a
  5m55-53aiam5i 3mi7-d3mamd33 775m-3m5im337
"""


def cifar(
  *, image_size: Size = 32, channels: int = 3, classes: int = 10
) -> Tree:
  """The released CIFAR-10 network, as an architecture of its space."""
  space = tree_space(image_size=image_size, channels=channels, classes=classes)
  blocks = BLOCKS.replace("-", "").split()
  return space.choose([CANDIDATES[op] for block in blocks for op in block])
