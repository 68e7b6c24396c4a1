"""Search spaces that are small enough to compile and to run in a test."""

from proxyless_jax.space import Chain, mobile_space


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
