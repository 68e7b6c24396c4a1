"""Op: what an operation says of itself, before anything computes.

An operation is a frozen dataclass: it has a name, counts its parameters and
its multiply-accumulates on an edge from shapes alone, and says which edges it
fits. How it computes is told apart from it, in `proxyless_jax.nn.ops.base`. An
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

MACs are of convolutions and linear layers alone: no batch norm, pooling or
activation.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from proxyless_jax.space.edge import Edge

ACTIVATIONS = ("relu6", "relu", "linear")


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


def optional(default):
  """A field of a description that JSON leaves out where it has its default.

  An operation's name does not tell such a field: `named` is what it tells.
  """
  return dataclasses.field(default=default, metadata={"optional": True})


def optional_fields(description) -> dict[str, object]:
  """The fields made by `optional`, and their defaults."""
  return {
    field.name: field.default
    for field in dataclasses.fields(description)
    if field.metadata.get("optional")
  }


def named(op: Op) -> Op:
  """The operation that `op.name` names: with the default epsilon."""
  defaults = optional_fields(op)
  return dataclasses.replace(op, **defaults) if defaults else op


def check_odd(field: str, value: int) -> None:
  """Raises a ValueError for a kernel that has no centre."""
  if not isinstance(value, int) or value < 1 or value % 2 == 0:
    raise ValueError(f"{field} = {value!r}: expected an odd positive integer")


def check_epsilon(value: float) -> None:
  """Raises a ValueError for what a batch norm can not add to a variance."""
  if type(value) is not float or not 0.0 < value < 1.0:
    raise ValueError(
      f"epsilon = {value!r}: expected a float between 0 and 1, such as 1e-5"
    )


def check_activation(value: str) -> None:
  """Raises a ValueError for an activation that no layer has."""
  if value not in ACTIVATIONS:
    raise ValueError(f"activation = {value!r}: expected one of {ACTIVATIONS}")


def check_same_width(op: Op, edge: Edge) -> None:
  """Raises a ValueError where an operation cannot change the width."""
  if edge.features_in != edge.features_out:
    raise ValueError(
      f"edge {edge.name!r}: {op.name!r} keeps the width: expected features_out "
      f"= features_in = {edge.features_in}, got {edge.features_out}"
    )


def check_same_size(op: Op, edge: Edge) -> None:
  """Raises a ValueError where an operation cannot change the size."""
  if edge.stride != 1:
    raise ValueError(
      f"edge {edge.name!r}: {op.name!r} keeps the size: expected stride 1, "
      f"got {edge.stride}"
    )


def check_own_shortcut(op: Op, edge: Edge) -> None:
  """Raises a ValueError for a shortcut around an operation that has its own."""
  if edge.shortcut:
    raise ValueError(
      f"edge {edge.name!r}: {op.name!r} has a shortcut of its own: expected "
      "shortcut = false"
    )
