"""Candidate operations: what an edge may be, and what each costs.

An operation is a frozen dataclass: it has a name, counts its parameters and
its multiply-accumulates on an edge from shapes alone, and says which edges it
fits. How it computes is told apart from it, in `proxyless_jax.nn.make`. An
operation of your own is a subclass of `Op` plus one registered module:

    @dataclasses.dataclass(frozen=True)
    class FusedConv(pj.Op):
      kernel: int

      @property
      def name(self):
        return f"fused_k{self.kernel}"
      ...

    @pj.make.register
    def _(op: FusedConv, edge, **options):
      return FusedConvModule(..., name=options["name"])

MACs are of convolutions and the classifier alone: no batch norm, pooling or
activation.
"""

from __future__ import annotations

import abc
import dataclasses
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from proxyless_jax.space.network import Edge


@dataclasses.dataclass(frozen=True)
class Op(abc.ABC):
  """One candidate operation of an edge."""

  @property
  @abc.abstractmethod
  def name(self) -> str:
    """The name that configs and JSON files use: unique within an edge."""

  @abc.abstractmethod
  def parameters(self, edge: Edge) -> int:
    """Trainable parameters of this operation on `edge`."""

  @abc.abstractmethod
  def macs(self, edge: Edge) -> int:
    """Multiply-accumulates for one example on `edge`."""

  def check(self, edge: Edge) -> None:
    """Raises ValueError where the operation does not fit `edge`."""
    del edge


@dataclasses.dataclass(frozen=True)
class Zero(Op):
  """Gives zeros: the block is dropped and its shortcut alone remains."""

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
  """kxk convolution, batch norm, ReLU6: the stem and the head."""

  kernel: int

  def __post_init__(self):
    _check_odd("kernel", self.kernel)

  @property
  def name(self) -> str:
    return f"conv_k{self.kernel}"

  def parameters(self, edge: Edge) -> int:
    return (self.kernel**2 * edge.features_in + 2) * edge.features_out

  def macs(self, edge: Edge) -> int:
    weights = self.kernel**2 * edge.features_in * edge.features_out
    return weights * edge.size_out**2


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

  Sandler et al., MobileNetV2, CVPR 2018. The expansion is absent where
  `expand` is 1. The shortcut belongs to the edge, not to the operation.
  """

  expand: int
  kernel: int

  def __post_init__(self):
    _check_odd("kernel", self.kernel)
    if not isinstance(self.expand, int) or self.expand < 1:
      raise ValueError(
        f"expand = {self.expand!r}: expected a positive integer, such as 3 or 6"
      )

  @property
  def name(self) -> str:
    return f"mbconv{self.expand}_k{self.kernel}"

  def hidden(self, edge: Edge) -> int:
    """Channels of the depthwise convolution."""
    return self.expand * edge.features_in

  def parameters(self, edge: Edge) -> int:
    hidden = self.hidden(edge)
    expansion = (edge.features_in + 2) * hidden if self.expand > 1 else 0
    depthwise = (self.kernel**2 + 2) * hidden
    return expansion + depthwise + (hidden + 2) * edge.features_out

  def macs(self, edge: Edge) -> int:
    hidden = self.hidden(edge)
    expansion = edge.features_in * hidden if self.expand > 1 else 0
    after_stride = hidden * (self.kernel**2 + edge.features_out)
    return expansion * edge.size**2 + after_stride * edge.size_out**2


def _check_odd(field: str, value: int) -> None:
  if not isinstance(value, int) or value < 1 or value % 2 == 0:
    raise ValueError(f"{field} = {value!r}: expected an odd positive integer")


def parse_op(name: str, ops: Iterable[Op] = ()) -> Op:
  """The operation that `name` names, such as 'mbconv6_k3' or 'zero'.

  Args:
    name: as in the `name` property of an operation.
    ops: operations of your own, found by their names before the built-in
      ones.

  Raises:
    ValueError: no operation has this name.
  """
  for op in ops:
    if op.name == name:
      return op
  if not isinstance(name, str):
    raise ValueError(f"operation {name!r}: expected its name, as text")
  if name == Zero.name:
    return Zero()
  if name == Classifier.name:
    return Classifier()
  if match := re.fullmatch(r"mbconv(\d+)_k(\d+)", name):
    return MBConv(expand=int(match[1]), kernel=int(match[2]))
  if match := re.fullmatch(r"conv_k(\d+)", name):
    return ConvBN(kernel=int(match[1]))
  raise ValueError(
    f"unknown operation {name!r}: expected mbconv{{expand}}_k{{kernel}}, "
    "zero, conv_k{kernel}, classifier, or the name of an operation given "
    "as `ops`"
  )
