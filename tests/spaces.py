"""Search spaces that are small enough to compile and to run in a test."""

from proxyless_jax.space import Chain, Tree, mobile_space, tree_space


def small_space(**changes) -> Chain:
  """A chain of two searched blocks; `changes` are arguments of its own."""
  arguments = dict(
    image_size=6,
    channels=2,
    classes=3,
    stem_width=8,
    stem_stride=1,
    first_width=0,
    widths=(8,),
    depths=(2,),
    strides=(1,),
    candidates=("mbconv1_k3", "mbconv1_k5", "zero"),
    head_width=8,
  )
  return mobile_space(**arguments | changes)


def widening_tree_space() -> Tree:
  """Three blocks with trees, 6, 8 and 10 wide; the last has a stride.

  The first two are stored alike.
  """
  return tree_space(
    image_size=(4, 6),
    classes=3,
    stem_width=4,
    alpha=6,
    depths=(2, 1),
    expand=2,
    branches=1,
    candidates=("sep_conv_3", "identity", "dil_conv_3", "max_pool_3"),
  )
