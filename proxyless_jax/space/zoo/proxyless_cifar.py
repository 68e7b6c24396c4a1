"""The network that Cai, Zhu and Han released for CIFAR-10, ICLR 2019.

Found by gradient (Proxyless-G); 2.08 % test error, with cutout, in the paper.
"""

from __future__ import annotations

from proxyless_jax.space.edge import Size
from proxyless_jax.space.pyramid import tree_space
from proxyless_jax.space.tree import Tree

CANDIDATES = {
  "i": "identity",
  "3": "sep_conv_3",
  "5": "sep_conv_5",
  "7": "sep_conv_7",
  "m": "max_pool_3",
  "a": "avg_pool_3",
}
# The configuration of the released network, a word for each block, a paragraph
# for each stage: the upper level of its two trees, a dash, the lower level.
BLOCKS = """
  7m53-3i7m5577 aim7-aa3i3i33 7i33-3a5a3a35 a537-533373i7 ai7m-53357aim
  7ma7-7m3533ii 3m77-im7753ii 33m5-5757aa37 73mm-5mii3aa3 5i3i-3i375757
  7a3i-7535a333 53a5-a5337733 mm3m-7373a57i 3753-m373i373 3aai-m3335i5i
  5i35-35aa5573 75i3-5533m737 m37m-ii3i57i3

  3m5a-5aa773am 733m-i7i737m5 m3mm-a3i3m5ia 3a3a-73a37i33 3m73-ma7i3iam
  75mi-m7mia3m7 i533-a5m57a3m 3i33-a333aaa3 37mm-m7im5553 37m7-73ai37mm
  7533-77a3i3a3 5ia7-aia53aam i3ia-a3i77mi3 7mm7-5i733m77 3753-m3i3i35i
  373i-333733mi mi37-i55aaia3 7m73-753a7555

  aa7i-aa3a5iia m7ii-ia5iai7i 33ai-7mi53ima 77mi-a5a3a3mm iiim-a7i7a5a7
  3i75-5im537i3 mm3a-iaami53i 7737-577a3m7a 3a73-3m33i3m5 a33i-am3m73ai
  mm53-a733aii3 53m7-73im35mi 77m5-3m3amm5m m553-ia337377 i3i7-a577773a
  5m55-53aiam5i 3mi7-33mam333 775m-3m5im337
"""


def cifar(
  *, image_size: Size = 32, channels: int = 3, classes: int = 10
) -> Tree:
  """The released CIFAR-10 network, as an architecture of its space."""
  space = tree_space(image_size=image_size, channels=channels, classes=classes)
  blocks = BLOCKS.replace("-", "").split()
  return space.choose([CANDIDATES[op] for block in blocks for op in block])
