"""The block of PyramidNet: Han, Kim and Kim, CVPR 2017."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

from proxyless_jax.space.edge import Edge, Op
from proxyless_jax.space.ops.checks import (
  check_own_shortcut,
  check_pads_shortcut,
)

EXPAND = 4


@dataclasses.dataclass(frozen=True)
class PyramidBlock(Op):
  """Bottleneck with batch norm at both ends, and its own shortcut.

  Batch norm, 1x1; batch norm, ReLU, 3x3; batch norm, ReLU, 1x1; batch norm.
  The stride is the 3x3 convolution's. The shortcut is the input, averaged over
  stride x stride, with zeros for the channels that it lacks.

  Attributes:
    survival: probability that ShakeDrop leaves the block unchanged; 1: no
      ShakeDrop. A fraction, so that the name has it exactly.
  """

  survival: Fraction = Fraction(1)

  def __post_init__(self) -> None:
    if not isinstance(self.survival, Fraction) or not 0 <= self.survival <= 1:
      raise ValueError(
        f"survival = {self.survival!r}: expected a fractions.Fraction from 0 "
        "to 1"
      )

  @property
  def name(self) -> str:
    if self.survival == 1:
      return "pyramid_block"
    part, whole = self.survival.as_integer_ratio()
    return f"pyramid_block_shakedrop_{part}_{whole}"

  def hidden(self, edge: Edge) -> int:
    """Channels of the 3x3 convolution."""
    return edge.features_out // EXPAND

  def parameters(self, edge: Edge) -> int:
    hidden = self.hidden(edge)
    norms = 2 * (edge.features_in + 2 * hidden + edge.features_out)
    convolutions = edge.features_in + 9 * hidden + edge.features_out
    return norms + hidden * convolutions

  def macs(self, edge: Edge) -> int:
    hidden = self.hidden(edge)
    after_stride = hidden * (9 * hidden + edge.features_out)
    before_stride = hidden * edge.features_in
    return before_stride * edge.pixels_in + after_stride * edge.pixels_out

  def check(self, edge: Edge) -> None:
    check_own_shortcut(self, edge)
    check_pads_shortcut(self, edge, EXPAND)
