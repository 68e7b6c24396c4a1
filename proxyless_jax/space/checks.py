"""Checks of arguments and fields: errors that name the field and the fix."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence, Sized


def expect(fits: object, field: str, value: object, expected: str) -> None:
  """Raises a ValueError that names the field, where `fits` is false.

  Args:
    fits: whether the value is as expected.
    field: name of the field, for the error.
    value: the value, which the error shows.
    expected: description of what would fit.
  """
  if not fits:
    raise ValueError(f"{field} = {value!r}: expected {expected}")


def is_positive(value: object) -> bool:
  """Whether a value is a Python integer above 0."""
  # Not isinstance: a bool is an int to Python, and NumPy's are not JSON's.
  return type(value) is int and value > 0


def check_positive(**fields: object) -> None:
  """Raises a ValueError for the first field that is no positive integer.

  Args:
    **fields: values by field name.
  """
  for field, value in fields.items():
    expect(is_positive(value), field, value, "a positive integer")


def check_natural(field: str, value: object) -> None:
  """Raises a ValueError for anything but an integer of 0 or more."""
  natural = type(value) is int and value >= 0
  expect(natural, field, value, "an integer of 0 or more")


def check_number(field: str, value: object) -> None:
  """Raises a ValueError for anything but a finite number of 0 or more."""
  fits = (
    isinstance(value, int | float)
    and not isinstance(value, bool)
    and 0 <= value < math.inf
  )
  expect(fits, field, value, "a number of 0 or more")


def check_odd(field: str, value: object) -> None:
  """Raises a ValueError for a kernel size that has no centre."""
  fits = isinstance(value, int) and value > 0 and value % 2 == 1
  expect(fits, field, value, "an odd positive integer")


def check_tuple(field: str, value: object, kind: type) -> None:
  """Raises a ValueError for anything but a tuple of `kind`."""
  # A list would make the network unhashable, which shows only under jit.
  fits = isinstance(value, tuple) and all(isinstance(v, kind) for v in value)
  expect(fits, field, value, f"a tuple of {kind.__name__}")


def check_sequence(field: str, value: object, items: str) -> None:
  """Raises a ValueError for a value that is no sequence of items, or a text.

  Args:
    field: name of the field, for the error.
    value: the value to check.
    items: description of the items, for the error.
  """
  listed = isinstance(value, Iterable) and isinstance(value, Sized)
  fits = listed and not isinstance(value, str | bytes | Mapping)
  expect(fits, field, value, f"a tuple of {items}")


def check_per_stage(**fields: Sequence[int]) -> None:
  """Raises a ValueError unless all fields have one positive integer per stage.

  Args:
    **fields: sequences of integers by field name, all of the same length.
  """
  for field, values in fields.items():
    check_sequence(field, values, "integers, one per stage")
  lengths = {len(values) for values in fields.values()}
  if len(lengths) > 1 or 0 in lengths:
    listed = [f"{field} = {tuple(values)}" for field, values in fields.items()]
    raise ValueError(
      f"{', '.join(listed)}: expected one entry per stage in each"
    )
  for i, stage in enumerate(zip(*fields.values())):
    check_positive(**{f"{name}[{i}]": v for name, v in zip(fields, stage)})


def check_path(field: str, value: object) -> None:
  """Raises a ValueError for anything but the path of a file."""
  # Not left to `open`, which takes an integer for a file that is open already.
  if not isinstance(value, str | os.PathLike):
    raise ValueError(
      f"{field} is of type {type(value).__name__}: expected the path of a "
      "file, as str or pathlib.Path"
    )
