"""A config's section as a frozen dataclass: names, types and ranges checked."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, get_args, get_origin, get_type_hints

from proxyless_jax.space.suggest import did_you_mean


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
  with in_section(path, cls):
    return cls(**values)


@contextlib.contextmanager
def in_section(path: str, cls) -> Iterator[None]:
  """Gives errors that name a field of a section the section's own name too.

  What reads a section, such as the data's options, knows nothing of the config
  that it is a part of.

  Args:
    path: dotted, of the section.
    cls: its dataclass.
  """
  try:
    yield
  except ValueError as error:
    field = re.match(r"\w*", str(error))[0]
    own = {field.name for field in dataclasses.fields(cls)}
    # 'search', where 'search.lr' was named already, is no field of a search.
    if not path or field not in own:
      raise
    raise ValueError(f"{path}.{error}") from error


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
  unknown = sorted(set(section) - set(known), key=str)
  missing = sorted(set(required) - set(section))
  problems = []
  if unknown:
    problems.append(f"unknown fields {unknown}")
  if missing:
    problems.append(f"missing fields {missing}")
  if problems:
    meant = did_you_mean(unknown[0], known) if unknown else ""
    if unknown and not meant:
      meant = f"; known are {sorted(known)}"
    where = f"config.{path}" if path else "config"
    raise ValueError(f"{where}: {', '.join(problems)}{meant}")


def one_of(field: str, value, choices) -> None:
  """Raises a ValueError that names the field; so do those below."""
  if value not in choices:
    raise ValueError(
      f"{field} = {value!r}: expected one of {choices}"
      f"{did_you_mean(value, choices)}"
    )


def positive(field: str, value) -> None:
  """For a value that is not above 0."""
  if not value > 0:
    raise ValueError(f"{field} = {value!r}: expected a positive number")


def not_negative(field: str, value) -> None:
  """For a value below 0."""
  if not value >= 0:
    raise ValueError(f"{field} = {value!r}: expected 0 or more")


def divides(field: str, value: int, of: str, whole: int) -> None:
  """For a value that is no positive divisor of the field `of`."""
  if value < 1 or whole % value:
    raise ValueError(
      f"{field} = {value!r}: expected a positive divisor of {of} = {whole}"
    )


def fraction(field: str, value) -> None:
  """For a value below 0, or of 1 or more."""
  if not 0 <= value < 1:
    raise ValueError(f"{field} = {value!r}: expected at least 0 and below 1")


def at_most(field: str, value, limit, what: str) -> None:
  """For a value above a limit, which `what` explains."""
  if value > limit:
    raise ValueError(f"{field} = {value!r}: expected at most {limit}, {what}")
