"""Op, a candidate operation, and Edge, a position in a network.

An operation is a frozen dataclass: it has a name, counts its parameters and
its multiply-accumulates on an edge from shapes alone, and says which edges it
fits. How it computes is separate: `proxyless_jax.nn.ops.base`. An operation of
your own is a subclass of `Op` and one registered module:

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

An edge is one position of a network with the operations that it may be:
several in a search space, one in an architecture.

MACs count convolutions and linear layers: no batch norm, pooling or activation.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import math
import operator
from typing import Any, TypeVar

from proxyless_jax.space.checks import check_tuple, expect, is_positive
from proxyless_jax.space.suggest import did_you_mean

# Height and width of an image or a feature map; one number where they are
# equal.
Size = int | tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Op(abc.ABC):
  """One candidate operation of an edge."""

  @property
  @abc.abstractmethod
  def name(self) -> str:
    """The name that configs and JSON files use: unique within an edge."""

  @abc.abstractmethod
  def parameters(self, edge: Edge) -> int:
    """Number of trainable parameters of this operation on `edge`."""

  @abc.abstractmethod
  def macs(self, edge: Edge) -> int:
    """Number of multiply-accumulates for one example on `edge`."""

  def check(self, edge: Edge) -> None:
    """Raises a ValueError where the operation does not fit `edge`."""
    del edge


AnyOp = TypeVar("AnyOp", bound=Op)


def optional(default: Any) -> Any:
  """A dataclass field that JSON leaves out where it has its default.

  The name of an operation does not show such a field: see `named`.
  """
  return dataclasses.field(default=default, metadata={"optional": True})


def optional_fields(description: Any) -> dict[str, object]:
  """The fields of a dataclass made by `optional`, and their defaults."""
  return {
    field.name: field.default
    for field in dataclasses.fields(description)
    if field.metadata.get("optional")
  }


def named(op: AnyOp) -> AnyOp:
  """The operation that `op.name` names: with its optional fields' defaults."""
  defaults = optional_fields(op)
  return dataclasses.replace(op, **defaults) if defaults else op


@dataclasses.dataclass(frozen=True)
class Edge:
  """A position in a network, and the operations that it may be.

  Attributes:
    name: unique within its network; names the edge's parameters too.
    ops: the candidates, in the order of the architecture parameters.
    features_in, features_out: channels of the input and of the output.
    stride: stride in both spatial dimensions.
    size: height and width of the input, in pixels, or one number for both.
      Equal ones become one number.
    shortcut: whether the input is added to the output.
  """

  name: str
  ops: tuple[Op, ...]
  features_in: int
  features_out: int
  stride: int
  size: Size
  shortcut: bool = False

  def __post_init__(self) -> None:
    is_text = isinstance(self.name, str) and self.name
    expect(is_text, "edge name", self.name, "a text")
    where = f"edge {self.name!r}: "
    for field in ("features_in", "features_out", "stride"):
      value = getattr(self, field)
      expect(is_positive(value), where + field, value, "a positive integer")
    object.__setattr__(self, "size", as_size(where + "size", self.size))
    boolean = type(self.shortcut) is bool
    expect(boolean, where + "shortcut", self.shortcut, "true or false")
    check_tuple(where + "ops", self.ops, Op)
    self._check_fit()

  def _check_fit(self) -> None:
    height, width = height_width(self.size)
    if self.stride > min(height, width):
      raise ValueError(
        f"edge {self.name!r}: stride {self.stride} does not fit its input of "
        f"{height}x{width}: use a larger image or fewer strides of 2"
      )
    if self.shortcut and not self.keeps_shape:
      raise ValueError(
        f"edge {self.name!r}: a shortcut needs stride 1 and equal widths, "
        f"got stride {self.stride}, {self.features_in} -> {self.features_out}"
      )
    names = [op.name for op in self.ops]
    different = names and len(set(names)) == len(names)
    where = f"edge {self.name!r}: ops"
    expect(different, where, names, "one or more different operations")
    for op in self.ops:
      op.check(self)

  @property
  def keeps_shape(self) -> bool:
    """Whether the output has the size and the width of the input."""
    return self.stride == 1 and self.features_in == self.features_out

  @property
  def size_out(self) -> Size:
    """`size` of the output: padding is kernel // 2 on each side."""
    sides = height_width(self.size)
    return _joined(*(-(-side // self.stride) for side in sides))

  @property
  def shape_in(self) -> tuple[int, int, int]:
    """(h, w, features_in) of the input."""
    return *height_width(self.size), self.features_in

  @property
  def shape_out(self) -> tuple[int, int, int]:
    """(h, w, features_out) of the output, where it is a feature map."""
    return *height_width(self.size_out), self.features_out

  @property
  def pixels_in(self) -> int:
    """Height times width of the input."""
    return math.prod(height_width(self.size))

  @property
  def pixels_out(self) -> int:
    """Height times width of the output."""
    return math.prod(height_width(self.size_out))

  @property
  def elements_in(self) -> int:
    """Number of elements of the input, for one example."""
    return self.pixels_in * self.features_in

  @property
  def elements_out(self) -> int:
    """Number of elements of the output, for one example."""
    return self.pixels_out * self.features_out

  @property
  def op(self) -> Op:
    """The operation of an edge that has only one.

    Raises:
      ValueError: the edge still has several candidates.
    """
    if len(self.ops) > 1:
      raise ValueError(
        f"edge {self.name!r} has {len(self.ops)} candidates: choose one first "
        "(`space.choose`)"
      )
    return self.ops[0]

  def index(self, choice: str | int) -> int:
    """The index of a candidate.

    Args:
      choice: name or index of the candidate.

    Raises:
      ValueError: the edge has no such candidate.
    """
    names = [op.name for op in self.ops]
    if isinstance(choice, str) and choice in names:
      return names.index(choice)
    # A bool is an int to Python, but nobody means candidate True.
    if not isinstance(choice, str | bool):
      with contextlib.suppress(TypeError):  # Neither a name nor an integer.
        index = operator.index(choice)
        if 0 <= index < len(names):
          return index
    raise ValueError(
      f"edge {self.name!r}: no candidate {choice!r}: expected one of {names}, "
      f"or an index from 0 to {len(names) - 1}{did_you_mean(choice, names)}"
    )


def as_size(field: str, value: object) -> Size:
  """A size from one number or two.

  Args:
    field: name of the field, for the error.
    value: an integer, or height and width.

  Raises:
    ValueError: the value is no size.
  """
  if isinstance(value, tuple | list) and len(value) == 2:
    height, width = value
  else:
    height = width = value
  expected = "a positive integer, or two, such as (96, 160): height and width"
  fits = is_positive(height) and is_positive(width)
  expect(fits, field, value, expected)
  return _joined(height, width)


def height_width(size: Size) -> tuple[int, int]:
  """The height and the width of a size."""
  return size if isinstance(size, tuple) else (size, size)


def _joined(height: int, width: int) -> Size:
  return height if height == width else (height, width)
