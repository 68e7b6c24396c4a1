"""The operation of the shallower ResNets: the basic block."""

from __future__ import annotations

import dataclasses

from proxyless_jax.space.edge import Edge, Op
from proxyless_jax.space.ops.checks import check_own_shortcut


@dataclasses.dataclass(frozen=True)
class BasicBlock(Op):
  """relu(F(x) + shortcut(x)): He et al., CVPR 2016, equation 1 and figure 2.

  F is a 3x3 convolution at the edge's stride, ReLU, and another one. The
  shortcut is the input; a 1x1 convolution at the same stride where size or
  width change (option B). Batch norm with epsilon 1e-5 after each convolution.
  The shortcut is the operation's own, since ReLU comes after the sum.
  """

  name = "basic_block"

  def projects(self, edge: Edge) -> bool:
    """Whether the shortcut is a convolution."""
    return not edge.keeps_shape

  def parameters(self, edge: Edge) -> int:
    norms = 2 * (2 + self.projects(edge)) * edge.features_out
    return self._weights(edge) + norms

  def macs(self, edge: Edge) -> int:
    return self._weights(edge) * edge.pixels_out

  def check(self, edge: Edge) -> None:
    check_own_shortcut(self, edge)

  def _weights(self, edge: Edge) -> int:
    convolutions = 9 * (edge.features_in + edge.features_out)
    if self.projects(edge):
      convolutions += edge.features_in
    return convolutions * edge.features_out
