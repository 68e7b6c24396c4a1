"""Operations of PyramidNets with trees: batch norm comes before the weights."""

from __future__ import annotations

import dataclasses

from proxyless_jax.space.checks import check_odd
from proxyless_jax.space.edge import Edge, Op, optional
from proxyless_jax.space.ops.checks import check_epsilon

DILATION = 2


@dataclasses.dataclass(frozen=True)
class NormConv(Op):
  """Batch norm, ReLU where `relu`, kxk convolution.

  Attributes:
    kernel: size of the kernel.
    relu: whether there is a ReLU.
    groups: number of groups of channels.
    shuffle: whether a channel shuffle over the groups follows, which has no
      parameters and no MACs.
    epsilon: epsilon of the batch norm.
  """

  kernel: int
  relu: bool = True
  groups: int = 1
  shuffle: bool = False
  epsilon: float = optional(1e-5)

  def __post_init__(self) -> None:
    check_odd("kernel", self.kernel)
    check_epsilon(self.epsilon)
    if type(self.groups) is not int or self.groups < 1:
      raise ValueError(f"groups = {self.groups!r}: expected a positive integer")
    for field in ("relu", "shuffle"):
      value = getattr(self, field)
      if type(value) is not bool:
        raise ValueError(f"{field} = {value!r}: expected True or False")
    if self.shuffle and self.groups == 1:
      raise ValueError(
        "shuffle = True: expected groups = 2 or more, which it mixes"
      )

  @property
  def name(self) -> str:
    relu = "_relu" if self.relu else ""
    groups = f"_g{self.groups}" if self.groups > 1 else ""
    shuffle = "_shuffle" if self.shuffle else ""
    return f"norm{relu}_conv_k{self.kernel}{groups}{shuffle}"

  def _weights(self, edge: Edge) -> int:
    return (
      self.kernel**2 * (edge.features_in // self.groups) * edge.features_out
    )

  def parameters(self, edge: Edge) -> int:
    return 2 * edge.features_in + self._weights(edge)

  def macs(self, edge: Edge) -> int:
    return self._weights(edge) * edge.pixels_out

  def check(self, edge: Edge) -> None:
    for field in ("features_in", "features_out"):
      if getattr(edge, field) % self.groups:
        raise ValueError(
          f"edge {edge.name!r}: {self.name!r} needs {field} to be a multiple "
          f"of {self.groups}, got {getattr(edge, field)}"
        )


@dataclasses.dataclass(frozen=True)
class NormSepConv(Op):
  """Separable: batch norm, ReLU, kxk depthwise, 1x1 convolution.

  Attributes:
    kernel: size of the depthwise kernel.
    dilated: whether its taps are two pixels apart instead of one.
    epsilon: epsilon of the batch norm.
  """

  kernel: int
  dilated: bool = False
  epsilon: float = optional(1e-5)

  def __post_init__(self) -> None:
    check_odd("kernel", self.kernel)
    check_epsilon(self.epsilon)

  @property
  def name(self) -> str:
    return f"{'dil' if self.dilated else 'sep'}_conv_{self.kernel}"

  @property
  def dilation(self) -> int:
    """Distance between the taps, in pixels."""
    return DILATION if self.dilated else 1

  def _weights(self, edge: Edge) -> int:
    return edge.features_in * (self.kernel**2 + edge.features_out)

  def parameters(self, edge: Edge) -> int:
    return 2 * edge.features_in + self._weights(edge)

  def macs(self, edge: Edge) -> int:
    return self._weights(edge) * edge.pixels_out
