"""The operation of ShuffleNetV2: a unit of two branches, shuffled together."""

from __future__ import annotations

import dataclasses

from proxyless_jax.space.checks import check_odd
from proxyless_jax.space.edge import Edge, Op
from proxyless_jax.space.ops.checks import check_own_shortcut, check_same_width


@dataclasses.dataclass(frozen=True)
class ShuffleUnit(Op):
  """Ma et al., ShuffleNet V2, ECCV 2018, figure 3 (c) and (d).

  At stride 1 the first half of the channels passes as it is, beside a 1x1
  convolution, a kxk depthwise one and a 1x1 one of the second half. At a larger
  stride both branches see all channels, and the first one is a kxk depthwise
  and a 1x1 convolution. Each branch gives half of the output, and a channel
  shuffle mixes the halves. Batch norm with epsilon 1e-5 after each convolution,
  ReLU after those of 1x1.

  Attributes:
    kernel: size of the depthwise kernels.
  """

  kernel: int

  def __post_init__(self) -> None:
    check_odd("kernel", self.kernel)

  @property
  def name(self) -> str:
    return f"shuffle_k{self.kernel}"

  def parameters(self, edge: Edge) -> int:
    branch, half = self._branch_in(edge), edge.features_out // 2
    depthwise = self.kernel**2 + 2
    second = (branch + 2 + depthwise + half + 2) * half
    if edge.stride == 1:
      return second
    return second + depthwise * edge.features_in + (edge.features_in + 2) * half

  def macs(self, edge: Edge) -> int:
    branch, half = self._branch_in(edge), edge.features_out // 2
    before_stride = branch * half * edge.pixels_in
    after_stride = (self.kernel**2 + half) * half
    if edge.stride > 1:
      after_stride += (self.kernel**2 + half) * edge.features_in
    return before_stride + after_stride * edge.pixels_out

  def check(self, edge: Edge) -> None:
    check_own_shortcut(self, edge)
    if edge.stride == 1:
      check_same_width(self, edge)
    if edge.features_out % 2:
      raise ValueError(
        f"edge {edge.name!r}: {self.name!r} joins two equal halves: expected "
        f"an even features_out, got {edge.features_out}"
      )

  def _branch_in(self, edge: Edge) -> int:
    """Number of input channels of the second branch."""
    return edge.features_in if edge.stride > 1 else edge.features_in // 2
