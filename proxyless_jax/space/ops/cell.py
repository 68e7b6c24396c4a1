"""Operations of cell networks: NASNet, AmoebaNet, ENAS and DARTS.

Convolutions of cells activate before they convolve and normalise after it.
One operation of a paper may be several of these, one edge each: a separable
convolution is two `SepConv`s.
"""

from __future__ import annotations

import dataclasses

from proxyless_jax.space.checks import check_odd
from proxyless_jax.space.edge import Edge, Op
from proxyless_jax.space.ops.checks import check_epsilon
from proxyless_jax.space.ops.common import Free

EPSILON = 1e-3


@dataclasses.dataclass(frozen=True)
class CellConv(Op):
  """ReLU where `relu`, kxk convolution at the edge's stride, batch norm.

  Attributes:
    kernel: size of the kernel.
    relu: whether there is a ReLU before the convolution.
    epsilon: epsilon of the batch norm.
  """

  kernel: int = 1
  relu: bool = True
  epsilon: float = EPSILON

  def __post_init__(self) -> None:
    check_odd("kernel", self.kernel)
    check_epsilon(self.epsilon)

  @property
  def name(self) -> str:
    return f"{_relu(self)}conv_bn_{self.kernel}{_suffix(self)}"

  def parameters(self, edge: Edge) -> int:
    return (self.kernel**2 * edge.features_in + 2) * edge.features_out

  def macs(self, edge: Edge) -> int:
    weights = self.kernel**2 * edge.features_in * edge.features_out
    return weights * edge.pixels_out


@dataclasses.dataclass(frozen=True)
class SepConv(Op):
  """ReLU, kxk depthwise convolution, 1x1 convolution, batch norm.

  Attributes:
    kernel: size of the depthwise kernel.
    dilation: distance between its taps; padding grows with it, so that the size
      stays.
    epsilon: epsilon of the batch norm.
  """

  kernel: int
  dilation: int = 1
  epsilon: float = EPSILON

  def __post_init__(self) -> None:
    check_odd("kernel", self.kernel)
    check_epsilon(self.epsilon)
    if type(self.dilation) is not int or self.dilation < 1:
      raise ValueError(
        f"dilation = {self.dilation!r}: expected a positive integer"
      )

  @property
  def name(self) -> str:
    dilation = f"_d{self.dilation}" if self.dilation > 1 else ""
    return f"relu_sep_bn_{self.kernel}{dilation}{_suffix(self)}"

  def parameters(self, edge: Edge) -> int:
    depthwise = self.kernel**2 * edge.features_in
    return depthwise + (edge.features_in + 2) * edge.features_out

  def macs(self, edge: Edge) -> int:
    weights = edge.features_in * (self.kernel**2 + edge.features_out)
    return weights * edge.pixels_out

  def check(self, edge: Edge) -> None:
    if edge.stride % self.dilation and edge.stride > 1:
      raise ValueError(
        f"edge {edge.name!r}: {self.name!r} at stride {edge.stride}: expected "
        f"stride 1 or a multiple of the dilation {self.dilation}"
      )


@dataclasses.dataclass(frozen=True)
class FactorizedReduce(Op):
  """Halves a map without losing pixels: two 1x1 convolutions at stride 2.

  One starts at the first pixel, the other at the second, of both axes; each
  gives half of the channels. ReLU before them where `relu`, one batch norm
  after them.
  """

  relu: bool = True
  epsilon: float = EPSILON

  def __post_init__(self) -> None:
    check_epsilon(self.epsilon)

  @property
  def name(self) -> str:
    return f"{_relu(self)}reduce_bn{_suffix(self)}"

  def parameters(self, edge: Edge) -> int:
    return (edge.features_in + 2) * edge.features_out

  def macs(self, edge: Edge) -> int:
    return edge.features_in * edge.features_out * edge.pixels_out

  def check(self, edge: Edge) -> None:
    _check_stride_2(self, edge)
    if edge.features_out % 2:
      raise ValueError(
        f"edge {edge.name!r}: {self.name!r} gives two halves: expected an even "
        f"features_out, got {edge.features_out}"
      )


@dataclasses.dataclass(frozen=True)
class BlockMaxPool(Free):
  """Max pooling of 2x2 pixels at stride 2; an odd last row stands alone."""

  name = "max_pool_2x2"

  def check(self, edge: Edge) -> None:
    super().check(edge)
    _check_stride_2(self, edge)


def _check_stride_2(op: Op, edge: Edge) -> None:
  if edge.stride != 2:
    raise ValueError(
      f"edge {edge.name!r}: {op.name!r} halves the size: expected stride 2, "
      f"got {edge.stride}"
    )


def _relu(op: CellConv | FactorizedReduce) -> str:
  return "relu_" if op.relu else ""


def _suffix(op: CellConv | SepConv | FactorizedReduce) -> str:
  return "" if op.epsilon == EPSILON else f"_eps{op.epsilon!r}"
