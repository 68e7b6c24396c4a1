"""Edge: one place of a network, and the operations that it may be."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import operator
import os
from collections.abc import Iterable, Mapping, Sized

from proxyless_jax.space.ops import Op
from proxyless_jax.space.suggest import did_you_mean

# Of an image or a map: its height and width, one number where they are equal.
Size = int | tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Edge:
  """One place of a network, and the operations that it may be.

  Attributes:
    name: unique within its network; names the edge's parameters too.
    ops: the candidates, in the order of the architecture parameters.
    features_in, features_out: channels.
    stride: of the spatial dimensions.
    size: of the input, in pixels: height and width, or one number for both.
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

  def __post_init__(self):
    named = isinstance(self.name, str) and self.name
    expect(named, "edge name", self.name, "a text")
    where = f"edge {self.name!r}: "
    for field in ("features_in", "features_out", "stride"):
      value = getattr(self, field)
      # Not isinstance: a bool is an int to Python, and NumPy's are not JSON's.
      positive = type(value) is int and value > 0
      expect(positive, where + field, value, "a positive integer")
    object.__setattr__(self, "size", as_size(where + "size", self.size))
    boolean = type(self.shortcut) is bool
    expect(boolean, where + "shortcut", self.shortcut, "true or false")
    check_tuple(where + "ops", self.ops, Op)
    self._check_fit()

  def _check_fit(self):
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
    """(h, w, features_out) of the output, where the operation gives a map."""
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
    """The position of a candidate given by its name or its position."""
    names = [op.name for op in self.ops]
    if isinstance(choice, str) and choice in names:
      return names.index(choice)
    # A bool is an int to Python, but nobody means candidate True.
    if not isinstance(choice, bool):
      with contextlib.suppress(TypeError):  # neither a name nor an integer
        index = operator.index(choice)
        if 0 <= index < len(names):
          return index
    raise ValueError(
      f"edge {self.name!r}: no candidate {choice!r}: expected one of {names}, "
      f"or an index from 0 to {len(names) - 1}{did_you_mean(choice, names)}"
    )


def as_size(field: str, value: object) -> Size:
  """A size from one number or two; a ValueError for what is none.

  Args:
    field: its name, for the error.
    value: an integer, or height and width.
  """
  pair = isinstance(value, tuple | list) and len(value) == 2
  sides = value if pair else (value, value)
  # Not isinstance: a bool is an int to Python, and NumPy's are not JSON's.
  positive = all(type(side) is int and side > 0 for side in sides)
  expected = "a positive integer, or two, such as (96, 160): height and width"
  expect(positive, field, value, expected)
  return _joined(*sides)


def height_width(size: Size) -> tuple[int, int]:
  """The height and width of a size."""
  return size if isinstance(size, tuple) else (size, size)


def _joined(height: int, width: int) -> Size:
  return height if height == width else (height, width)


def check_tuple(field: str, value: object, kind: type) -> None:
  """Raises a ValueError for what is no tuple of `kind`."""
  # A list would make the network unhashable, which shows only under jit.
  fits = isinstance(value, tuple) and all(isinstance(v, kind) for v in value)
  expect(fits, field, value, f"a tuple of {kind.__name__}")


def check_sequence(field: str, value: object, items: str) -> None:
  """Raises a ValueError for what cannot be gone through, a text among it."""
  listed = isinstance(value, Iterable) and isinstance(value, Sized)
  fits = listed and not isinstance(value, str | bytes | Mapping)
  expect(fits, field, value, f"a tuple of {items}")


def check_path(field: str, value: object) -> None:
  """Raises a ValueError for what is no path of a file."""
  # Not left to `open`, which takes an integer for a file that is open already.
  if not isinstance(value, str | os.PathLike):
    raise ValueError(
      f"{field} is of type {type(value).__name__}: expected the path of a "
      "file, as str or pathlib.Path"
    )


def expect(fits: object, field: str, value: object, expected: str) -> None:
  """Raises a ValueError that names the field, where `fits` is false."""
  if not fits:
    raise ValueError(f"{field} = {value!r}: expected {expected}")
