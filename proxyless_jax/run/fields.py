"""A config's section as a frozen dataclass: names, types and ranges checked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Any, get_args, get_origin, get_type_hints


def read(cls, section: Any, path: str = ""):
  """Makes a dataclass of nested dicts, field by field.

  Args:
    cls: frozen dataclass; a field may be a dataclass, bool, int, float, str, a
      tuple, a union, or a Mapping, whose values may be dataclasses.
    section: has every field of it, and nothing else.
    path: dotted, of the section.

  Raises:
    ValueError: unknown, missing or wrong fields, named by their dotted path.
  """
  if not isinstance(section, Mapping):
    raise ValueError(f"{path} = {section!r}: expected a section of fields")
  hints = get_type_hints(cls)
  names = [field.name for field in dataclasses.fields(cls)]
  check_names(path, section, names, names)
  values = {}
  for name in names:
    where = f"{path}.{name}" if path else name
    values[name] = _value(hints[name], section[name], where)
  try:
    return cls(**values)
  except ValueError as error:
    # The data's options know nothing of the config that they are a part of.
    named = not path or str(error).startswith(f"{path}.")
    raise ValueError(f"{'' if named else path + '.'}{error}") from error


def _value(hint, value, where: str):
  if dataclasses.is_dataclass(hint):
    return read(hint, value, where)
  if get_origin(hint) is Mapping:
    return _mapping(get_args(hint)[1], value, where)
  if any(get_origin(kind) is tuple for kind in (hint, *get_args(hint))):
    # What is in it, or may stand in its place, the dataclass checks.
    return tuple(value) if isinstance(value, list) else value
  if hint is float and isinstance(value, int) and not isinstance(value, bool):
    value = float(value)
  bool_as_int = hint is int and isinstance(value, bool)
  if not isinstance(value, hint) or bool_as_int:
    expected = getattr(hint, "__name__", hint)
    raise ValueError(f"{where} = {value!r}: expected {expected}")
  if hint is float and not math.isfinite(value):
    raise ValueError(f"{where} = {value!r}: expected a finite number")
  return value


def _mapping(hint, value, where: str):
  if not isinstance(value, Mapping):
    raise ValueError(f"{where} = {value!r}: expected a section of fields")
  if not dataclasses.is_dataclass(hint):
    return value
  return {
    name: read(hint, section, f"{where}.{name}")
    for name, section in value.items()
  }


def check_names(
  path: str, section: Collection[str], known, required=()
) -> None:
  """Raises a ValueError for names in `section` not known, or missing there."""
  unknown = sorted(set(section) - set(known))
  missing = sorted(set(required) - set(section))
  if unknown or missing:
    raise ValueError(
      f"config{'.' + path if path else ''}: unknown fields {unknown}, missing "
      f"fields {missing}; known are {sorted(known)}"
    )


def one_of(field: str, value, choices) -> None:
  """Raises a ValueError that names the field; so do those below."""
  if value not in choices:
    raise ValueError(f"{field} = {value!r}: expected one of {choices}")


def positive(field: str, value) -> None:
  """For a value that is not above 0."""
  if not value > 0:
    raise ValueError(f"{field} = {value!r}: expected a positive number")


def not_negative(field: str, value) -> None:
  """For a value below 0."""
  if not value >= 0:
    raise ValueError(f"{field} = {value!r}: expected 0 or more")


def divides(field: str, value: int, whole: int) -> None:
  """For a value that is no positive divisor of a batch."""
  if value < 1 or whole % value:
    raise ValueError(
      f"{field} = {value!r}: expected a positive divisor of the batch, {whole}"
    )


def fraction(field: str, value) -> None:
  """For a value below 0, or of 1 or more."""
  if not 0 <= value < 1:
    raise ValueError(f"{field} = {value!r}: expected at least 0 and below 1")


def at_most(field: str, value, limit, what: str) -> None:
  """For a value above a limit, which `what` explains."""
  if value > limit:
    raise ValueError(f"{field} = {value!r}: expected at most {limit}, {what}")
