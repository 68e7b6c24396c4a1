"""Operations of DenseNet-BC: Huang et al., CVPR 2017."""

from __future__ import annotations

import dataclasses

from proxyless_jax.space.edge import Edge, Op
from proxyless_jax.space.ops.checks import check_same_size


@dataclasses.dataclass(frozen=True)
class DenseLayer(Op):
  """Computes some channels, the growth, and concatenates them to its input.

  Batch norm, ReLU, 1x1 convolution; batch norm, ReLU, 3x3 convolution. The
  growth is the difference between the edge's widths.

  Attributes:
    expand: ratio of the channels between the two convolutions to the growth.
  """

  expand: int

  def __post_init__(self) -> None:
    if not isinstance(self.expand, int) or self.expand < 1:
      raise ValueError(
        f"expand = {self.expand!r}: expected a positive integer, such as 4"
      )

  @property
  def name(self) -> str:
    return f"dense_layer_{self.expand}"

  def growth(self, edge: Edge) -> int:
    """Number of channels that the layer adds."""
    return edge.features_out - edge.features_in

  def parameters(self, edge: Edge) -> int:
    hidden = self.expand * self.growth(edge)
    return 2 * edge.features_in + 2 * hidden + self._weights(edge)

  def macs(self, edge: Edge) -> int:
    return self._weights(edge) * edge.pixels_in

  def _weights(self, edge: Edge) -> int:
    growth = self.growth(edge)
    return self.expand * growth * (edge.features_in + 9 * growth)

  def check(self, edge: Edge) -> None:
    check_same_size(self, edge)
    if edge.features_out <= edge.features_in:
      raise ValueError(
        f"edge {edge.name!r}: {self.name!r} adds channels to its input's: "
        f"expected features_out > features_in = {edge.features_in}, got "
        f"{edge.features_out}"
      )


@dataclasses.dataclass(frozen=True)
class DenseTransition(Op):
  """Batch norm, ReLU, 1x1 convolution, then averages of stride x stride.

  The convolution comes before the pooling, as published, though it would cost
  a quarter after it.
  """

  name = "dense_transition"

  def parameters(self, edge: Edge) -> int:
    return edge.features_in * (2 + edge.features_out)

  def macs(self, edge: Edge) -> int:
    return edge.features_in * edge.features_out * edge.pixels_in
