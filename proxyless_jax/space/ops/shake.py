"""The block of Shake-Shake: Gastaldi, 2017 (arXiv:1705.07485)."""

from __future__ import annotations

import dataclasses

from proxyless_jax.space.edge import Edge, Op
from proxyless_jax.space.ops.checks import check_own_shortcut


@dataclasses.dataclass(frozen=True)
class ShakeBlock(Op):
  """Two residual branches in a random mixture, and a shortcut of its own.

  A branch is ReLU, 3x3 convolution, batch norm, ReLU, 3x3 convolution, batch
  norm. Where the width changes, the shortcut is ReLU, two 1x1 convolutions of
  half the width each, of which the second sees the image shifted by a pixel,
  and batch norm over both.
  """

  name = "shake_block"

  def parameters(self, edge: Edge) -> int:
    norms = 2 * edge.features_out
    branch = self._branch(edge) + 2 * norms
    shortcut = self._shortcut(edge)
    return 2 * branch + shortcut + (norms if shortcut else 0)

  def macs(self, edge: Edge) -> int:
    weights = 2 * self._branch(edge) + self._shortcut(edge)
    return weights * edge.pixels_out

  def _branch(self, edge: Edge) -> int:
    return 9 * edge.features_out * (edge.features_in + edge.features_out)

  def _shortcut(self, edge: Edge) -> int:
    if edge.features_in == edge.features_out:
      return 0
    return edge.features_in * edge.features_out

  def check(self, edge: Edge) -> None:
    check_own_shortcut(self, edge)
    same = edge.features_in == edge.features_out
    if (same and edge.stride != 1) or edge.features_out < 2:
      raise ValueError(
        f"edge {edge.name!r}: {self.name!r} has a shortcut with a stride only "
        f"where the width changes, and to 2 channels or more: got stride "
        f"{edge.stride}, {edge.features_in} -> {edge.features_out}"
      )
