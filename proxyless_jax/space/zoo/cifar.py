"""Common parts of the baselines for CIFAR-10: three stages of equal depth."""

from __future__ import annotations

from proxyless_jax.space.checks import expect

STAGES = 3


def blocks_per_stage(depth: int, outside: int, layers: int) -> int:
  """Number of blocks of each of the three stages.

  Args:
    depth: number of layers of the whole network.
    outside: number of them that are outside blocks.
    layers: number of layers of a block.

  Raises:
    ValueError: no number of blocks gives this depth.
  """
  blocks, rest = 0, 1
  if type(depth) is int:
    blocks, rest = divmod(depth - outside, STAGES * layers)
  fits = blocks > 0 and rest == 0
  wanted = f"{outside} + {STAGES * layers} * n for a positive integer n"
  expect(fits, "depth", depth, wanted)
  return blocks
