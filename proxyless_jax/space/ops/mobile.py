"""Operations of the mobile networks: MBConv, and the ends of a network."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

from proxyless_jax.space.checks import check_odd
from proxyless_jax.space.edge import Edge, Op, optional
from proxyless_jax.space.ops.checks import check_activation, check_epsilon


@dataclasses.dataclass(frozen=True)
class Zero(Op):
  """Zeros: the block is dropped and only its shortcut remains."""

  name = "zero"

  def parameters(self, edge: Edge) -> int:
    return 0

  def macs(self, edge: Edge) -> int:
    return 0

  def check(self, edge: Edge) -> None:
    if not edge.shortcut:
      raise ValueError(
        f"edge {edge.name!r}: 'zero' would cut the network in two, since the "
        "edge has no shortcut around it; remove 'zero' from its candidates"
      )


@dataclasses.dataclass(frozen=True)
class ConvBN(Op):
  """kxk convolution, batch norm, activation: stems and heads.

  Attributes:
    kernel: size of the kernel.
    activation: 'relu6', 'relu' or 'linear'.
    epsilon: epsilon of the batch norm.
  """

  kernel: int
  activation: str = "relu6"
  epsilon: float = optional(1e-3)

  def __post_init__(self) -> None:
    check_odd("kernel", self.kernel)
    check_epsilon(self.epsilon)
    check_activation(self.activation)

  @property
  def name(self) -> str:
    return f"conv_k{self.kernel}{_suffix(self.activation)}"

  def parameters(self, edge: Edge) -> int:
    return (self.kernel**2 * edge.features_in + 2) * edge.features_out

  def macs(self, edge: Edge) -> int:
    weights = self.kernel**2 * edge.features_in * edge.features_out
    return weights * edge.pixels_out


@dataclasses.dataclass(frozen=True)
class Classifier(Op):
  """Global average pooling, dropout, then a linear layer with bias."""

  name = "classifier"

  def parameters(self, edge: Edge) -> int:
    return (edge.features_in + 1) * edge.features_out

  def macs(self, edge: Edge) -> int:
    return edge.features_in * edge.features_out

  def check(self, edge: Edge) -> None:
    if edge.stride != 1 or edge.shortcut:
      raise ValueError(
        f"edge {edge.name!r}: 'classifier' gives no image: expected stride 1 "
        f"and no shortcut, got stride {edge.stride}, shortcut {edge.shortcut}"
      )


@dataclasses.dataclass(frozen=True)
class MBConv(Op):
  """Inverted residual: 1x1 expansion, kxk depthwise, 1x1 linear projection.

  Sandler et al., MobileNetV2, CVPR 2018; with `squeeze`, as in Tan et al.,
  MnasNet, CVPR 2019. The expansion is absent where `expand` is 1. The shortcut
  belongs to the edge, not to the operation.

  Attributes:
    expand: ratio of hidden channels to those of the input; a fraction where
      that is no integer, so that the name has it exactly.
    kernel: size of the depthwise kernel.
    squeeze: squeeze-and-excitation of the hidden channels through
      features_in // squeeze channels; 0: none.
    activation: 'relu6' or 'relu'.
    epsilon: epsilon of all three batch norms.
  """

  expand: int | Fraction
  kernel: int
  squeeze: int = 0
  activation: str = "relu6"
  epsilon: float = optional(1e-3)

  def __post_init__(self) -> None:
    check_odd("kernel", self.kernel)
    check_activation(self.activation)
    check_epsilon(self.epsilon)
    whole = type(self.expand) is int
    fraction = type(self.expand) is Fraction and self.expand.denominator > 1
    if not (whole or fraction) or self.expand <= 0:
      raise ValueError(
        f"expand = {self.expand!r}: expected a positive integer, such as 3 or "
        "6, or a fractions.Fraction that is not whole, such as Fraction(5, 2)"
      )
    if not isinstance(self.squeeze, int) or self.squeeze < 0:
      raise ValueError(
        f"squeeze = {self.squeeze!r}: expected an integer of 0 or more"
      )

  @property
  def name(self) -> str:
    squeeze = f"_se{self.squeeze}" if self.squeeze else ""
    # Names become keys and paths: no slash, no dot.
    expand = str(self.expand).replace("/", "over")
    kernel = f"mbconv{expand}_k{self.kernel}"
    return f"{kernel}{squeeze}{_suffix(self.activation)}"

  def hidden(self, edge: Edge) -> int:
    """Channels of the depthwise convolution."""
    return int(self.expand * edge.features_in)

  @property
  def expands(self) -> bool:
    """Whether there is a 1x1 expansion before the depthwise convolution."""
    return self.expand != 1

  def squeezed(self, edge: Edge) -> int:
    """Channels between the two layers of squeeze-and-excitation."""
    return max(1, edge.features_in // self.squeeze) if self.squeeze else 0

  def parameters(self, edge: Edge) -> int:
    hidden, squeezed = self.hidden(edge), self.squeezed(edge)
    expansion = (edge.features_in + 2) * hidden if self.expands else 0
    depthwise = (self.kernel**2 + 2) * hidden
    excitation = 2 * hidden * squeezed
    if squeezed:
      excitation += hidden + squeezed
    projection = (hidden + 2) * edge.features_out
    return expansion + depthwise + excitation + projection

  def macs(self, edge: Edge) -> int:
    hidden = self.hidden(edge)
    expansion = edge.features_in * hidden if self.expands else 0
    after_stride = hidden * (self.kernel**2 + edge.features_out)
    convolutions = expansion * edge.pixels_in + after_stride * edge.pixels_out
    return convolutions + 2 * hidden * self.squeezed(edge)

  def check(self, edge: Edge) -> None:
    if self.expand * edge.features_in % 1:
      raise ValueError(
        f"edge {edge.name!r}: {self.name!r} has {self.expand} times the "
        f"{edge.features_in} channels of its input: expected a whole number"
      )


def _suffix(activation: str) -> str:
  return "" if activation == "relu6" else f"_{activation}"
