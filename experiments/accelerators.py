"""What accelerators and their networks can do, on paper, and how long that is.

    compute     max(FLOPs / (peak u), bytes / (memory bandwidth v))
    all-reduce  sum over the levels of the network, g joined at each:
                2 (g - 1) / g bytes / (bandwidth w)    a ring's, each way
                2 hops(g) seconds a hop                whatever the bytes

Levels are nested: within a machine, then between machines, where each
accelerator carries on with its own share of the bytes. u, v, w are assumed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

# Of the peak of matrix units; of memory bandwidth; of a link's bandwidth.
COMPUTE_SHARE, MEMORY_SHARE, NETWORK_SHARE = 0.4, 0.8, 0.8


@dataclasses.dataclass(frozen=True)
class Level:
  """One level of a network.

  Attributes:
    name: name of the links.
    most: accelerators, or groups of the level below, that it joins.
    bandwidth: bytes a second out of one accelerator.
    hop: seconds of one hop.
    hops: number of hops from the farthest of g accelerators to the root of a
      sum.
  """

  name: str
  most: int
  bandwidth: float
  hop: float
  hops: Callable[[int], float]


@dataclasses.dataclass(frozen=True)
class Accelerator:
  """One kind of accelerator.

  Attributes:
    name: name of the product.
    peak: FLOP/s of bfloat16, dense.
    memory: bytes a second.
    start: seconds before an all-reduce moves its first byte.
    levels: levels of the network, from the inside to the outside.
  """

  name: str
  peak: float
  memory: float
  start: float
  levels: tuple[Level, ...]

  def compute(self, flops: float, traffic: float) -> float:
    """Seconds for some FLOPs and bytes read and written in memory."""
    return max(
      flops / (self.peak * COMPUTE_SHARE),
      traffic / (self.memory * MEMORY_SHARE),
    )

  def latency(self, accelerators: int) -> float:
    """Seconds of an all-reduce of a few bytes."""
    if accelerators == 1:
      return 0.0
    hops = (
      2 * level.hops(joined) * level.hop
      for level, joined in self._joined(accelerators)
    )
    return self.start + sum(hops)

  def transfer(self, exchanged: float, accelerators: int) -> float:
    """Seconds that bytes take in all-reduces, beside the latencies."""
    seconds, share = 0.0, exchanged
    for level, joined in self._joined(accelerators):
      rate = level.bandwidth * NETWORK_SHARE
      seconds += 2 * (joined - 1) / joined * share / rate
      share /= joined
    return seconds

  def _joined(self, accelerators: int):
    """How many each level joins."""
    for level in self.levels:
      joined = min(accelerators, level.most)
      yield level, joined
      accelerators //= joined


def _in_a_grid(chips: int) -> int:
  """Hops across a grid of 2^n chips, as square as can be; 16 close a ring."""
  high = 2 ** (int(math.log2(chips)) // 2)
  return sum(n // 2 if n == 16 else n - 1 for n in (high, chips // high))


# NVIDIA H100 Tensor Core GPU datasheet, SXM: 1,979 TFLOP/s of bfloat16 with
# sparsity, half of it without; 3.35 TB/s; NVLink 900 GB/s, both ways. DGX H100
# user guide: a ConnectX-7 of 400 Gb/s for each GPU. Latencies: the model that
# NCCL chooses algorithms by (src/graph/tuning.cc), tree, protocol LL: 6.8 us,
# 0.6 us a hop of NVLink, in a chain, 5 us a hop of the network, in a tree.
H100 = Accelerator(
  name="H100 SXM",
  peak=1979e12 / 2,
  memory=3.35e12,
  start=6.8e-6,
  levels=(
    Level("NVLink", 8, 900e9 / 2, 0.6e-6, lambda gpus: gpus - 1),
    Level("InfiniBand", 2**10, 400e9 / 8, 5e-6, math.log2),
  ),
)
# Cloud TPU documentation, v5e: 197 TFLOP/s of bfloat16, 819 GB/s, ICI 400 GB/s
# a chip, both ways; a pod of 256 chips, a 2D torus, with 6.4 Tb/s of
# data-centre network. Latencies are assumed: 1 us a hop, 50 us between pods.
V5E = Accelerator(
  name="TPU v5e",
  peak=197e12,
  memory=819e9,
  start=2e-6,
  levels=(
    Level("ICI", 256, 400e9 / 2, 1e-6, _in_a_grid),
    Level("data-centre network", 2**10, 6.4e12 / 8 / 256, 50e-6, math.log2),
  ),
)
ACCELERATORS = (H100, V5E)
