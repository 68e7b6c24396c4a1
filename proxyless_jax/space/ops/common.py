"""Common operations: pools, norms, plain convolutions, identity."""

from __future__ import annotations

import dataclasses

from proxyless_jax.space.checks import check_odd
from proxyless_jax.space.edge import Edge, Op, optional
from proxyless_jax.space.ops.checks import (
  check_epsilon,
  check_same_size,
  check_same_width,
)


@dataclasses.dataclass(frozen=True)
class Free(Op):
  """An operation without parameters and MACs that keeps the width."""

  def parameters(self, edge: Edge) -> int:
    return 0

  def macs(self, edge: Edge) -> int:
    return 0

  def check(self, edge: Edge) -> None:
    check_same_width(self, edge)


@dataclasses.dataclass(frozen=True)
class Identity(Free):
  """The input itself."""

  name = "identity"

  def check(self, edge: Edge) -> None:
    super().check(edge)
    check_same_size(self, edge)


@dataclasses.dataclass(frozen=True)
class Relu(Free):
  """max(x, 0)."""

  name = "relu"

  def check(self, edge: Edge) -> None:
    super().check(edge)
    check_same_size(self, edge)


@dataclasses.dataclass(frozen=True)
class PlainConv(Op):
  """kxk convolution alone, for stems before blocks that begin with a norm."""

  kernel: int

  def __post_init__(self) -> None:
    check_odd("kernel", self.kernel)

  @property
  def name(self) -> str:
    return f"plain_conv_k{self.kernel}"

  def parameters(self, edge: Edge) -> int:
    return self.kernel**2 * edge.features_in * edge.features_out

  def macs(self, edge: Edge) -> int:
    return self.parameters(edge) * edge.pixels_out


@dataclasses.dataclass(frozen=True)
class MaxPool(Free):
  """kxk max pooling at the edge's stride; padding is never the maximum."""

  kernel: int

  def __post_init__(self) -> None:
    check_odd("kernel", self.kernel)

  @property
  def name(self) -> str:
    return f"max_pool_{self.kernel}"


@dataclasses.dataclass(frozen=True)
class AvgPool(Free):
  """kxk average pooling at the edge's stride; padding is not counted."""

  kernel: int

  def __post_init__(self) -> None:
    check_odd("kernel", self.kernel)

  @property
  def name(self) -> str:
    return f"avg_pool_{self.kernel}"


@dataclasses.dataclass(frozen=True)
class Norm(Free):
  """Batch norm, then ReLU where `relu`.

  Attributes:
    relu: whether there is a ReLU.
    epsilon: epsilon of the batch norm.
  """

  relu: bool
  epsilon: float = optional(1e-5)

  def __post_init__(self) -> None:
    check_epsilon(self.epsilon)

  @property
  def name(self) -> str:
    return "norm_relu" if self.relu else "norm"

  def parameters(self, edge: Edge) -> int:
    return 2 * edge.features_out

  def check(self, edge: Edge) -> None:
    super().check(edge)
    check_same_size(self, edge)
