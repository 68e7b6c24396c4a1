"""A config's section as a frozen dataclass: names, types and ranges checked."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import types
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from proxyless_jax.space.suggest import did_you_mean

Section = TypeVar("Section")
AUTO = "auto"  # A length that follows from other fields.
_SECTION = "a section of fields"


def read(cls: type[Section], section: object, path: str = "") -> Section:
  """Makes a dataclass from nested dicts, field by field.

  Args:
    cls: frozen dataclass; a field may be a dataclass, bool, int, float, str, a
      tuple, a union, or a Mapping, whose values may be dataclasses.
    section: nested dicts; fields that are left out have their defaults.
    path: dotted path of the section in the config, '' for the config itself.

  Raises:
    ValueError: unknown, missing or wrong fields, named by their dotted path.
  """
  if not isinstance(section, Mapping):
    raise ValueError(f"{path} = {section!r}: expected {_SECTION}")
  hints = get_type_hints(cls)
  check_names(path, section, hints, _required(cls))
  values = {
    name: _value(hint, section[name], f"{path}.{name}" if path else name)
    for name, hint in hints.items()
    if name in section
  }
  with in_section(path, cls):
    return cls(**values)


def _required(cls: type) -> list[str]:
  """Names of the fields without a default."""
  return [
    field.name
    for field in dataclasses.fields(cls)
    if field.default is dataclasses.MISSING
    and field.default_factory is dataclasses.MISSING
  ]


def is_union(hint: object) -> bool:
  """Whether a type hint is a union, such as `int | tuple[int, int]`."""
  return get_origin(hint) in (Union, types.UnionType)


@contextlib.contextmanager
def in_section(path: str, cls: type) -> Iterator[None]:
  """Puts the path of a section before errors that name one of its fields.

  Code that reads a section, such as the data's options, knows nothing of the
  config that it is a part of.

  Args:
    path: dotted path of the section.
    cls: dataclass of the section.
  """
  try:
    yield
  except ValueError as error:
    field, *_ = re.split(r"\W", str(error), maxsplit=1)
    own = {field.name for field in dataclasses.fields(cls)}
    # 'search', where 'search.lr' was named already, is no field of a search.
    if not path or field not in own:
      raise
    raise ValueError(f"{path}.{error}") from error


def _value(hint: Any, value: Any, where: str) -> Any:
  if isinstance(hint, type) and dataclasses.is_dataclass(hint):
    return read(hint, value, where)
  if get_origin(hint) is Mapping:
    return _mapping(get_args(hint)[1], value, where)
  if any(get_origin(kind) is tuple for kind in (hint, *get_args(hint))):
    # The dataclass checks the items, and what a union allows instead.
    return tuple(value) if isinstance(value, list) else value
  if float in get_args(hint) and isinstance(value, str):
    value = _number(value)
  wants_float = hint is float or float in get_args(hint)
  if wants_float and isinstance(value, int) and not isinstance(value, bool):
    value = float(value)
  bool_as_int = hint is int and isinstance(value, bool)
  if not isinstance(value, hint) or bool_as_int:
    raise ValueError(f"{where} = {value!r}: expected {_expected(hint)}")
  if hint is float and not math.isfinite(value):
    raise ValueError(f"{where} = {value!r}: expected a finite number")
  return value


def _number(text: str) -> float | str:
  """What a flag says of a field that was 'auto', and so gives as text."""
  try:
    return float(text)
  except ValueError:
    return text


def _expected(hint: Any) -> str:
  """A type hint in words."""
  if is_union(hint):
    *kinds, last = (_expected(kind) for kind in get_args(hint))
    return f"{', '.join(kinds)} or {last}"
  return _SECTION if hint is Mapping else hint.__name__


def _mapping(hint: Any, value: Any, where: str) -> Mapping:
  if not isinstance(value, Mapping):
    raise ValueError(f"{where} = {value!r}: expected {_SECTION}")
  if not (isinstance(hint, type) and dataclasses.is_dataclass(hint)):
    return value
  return {
    name: read(hint, section, f"{where}.{name}")
    for name, section in value.items()
  }


def check_names(
  path: str,
  section: Collection[str],
  known: Collection[str],
  required: Collection[str] = (),
) -> None:
  """Raises a ValueError for unknown or missing names.

  Args:
    path: dotted path of the section.
    section: names that it has.
    known: names that it may have.
    required: names that it must have.
  """
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


def one_of(field: str, value: object, choices: Collection[str]) -> None:
  """Raises a ValueError that names the field unless the value is a choice."""
  if value not in choices:
    raise ValueError(
      f"{field} = {value!r}: expected one of {choices}"
      f"{did_you_mean(value, choices)}"
    )


def positive(field: str, value: float) -> None:
  """Raises a ValueError for a value that is not above 0."""
  if not value > 0:
    raise ValueError(f"{field} = {value!r}: expected a positive number")


def not_negative(field: str, value: float) -> None:
  """Raises a ValueError for a value below 0."""
  if not value >= 0:
    raise ValueError(f"{field} = {value!r}: expected 0 or more")


def length(field: str, value: float | str) -> None:
  """Raises a ValueError for anything but 'auto' and numbers of 0 or more."""
  if value != AUTO and (isinstance(value, str) or not 0 <= value < math.inf):
    raise ValueError(f"{field} = {value!r}: expected 0 or more, or {AUTO!r}")


def divides(field: str, value: int, of: str, whole: int) -> None:
  """Raises a ValueError unless the value divides that of the field `of`."""
  if value < 1 or whole % value:
    raise ValueError(
      f"{field} = {value!r}: expected a positive divisor of {of} = {whole}"
    )


def fraction(field: str, value: float) -> None:
  """Raises a ValueError for a value below 0, or of 1 or more."""
  if not 0 <= value < 1:
    raise ValueError(f"{field} = {value!r}: expected at least 0 and below 1")
