"""Networks as plain JSON values, and back: frozen dataclasses and tuples.

An operation becomes its name; or {"name": ..., "epsilon": ...} where it has
optional fields (see `edge.optional`) that differ from their defaults.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from proxyless_jax.space.checks import expect
from proxyless_jax.space.edge import Op, named, optional_fields
from proxyless_jax.space.ops.names import parse_op

Result = TypeVar("Result")


def to_plain(value: Any) -> Any:
  """Dataclasses as dicts, tuples as lists, operations as their names."""
  if isinstance(value, Op):
    fields = {"name": value.name, **_optional(value)}
    return fields if len(fields) > 1 else value.name
  if isinstance(value, tuple):
    return [to_plain(item) for item in value]
  if dataclasses.is_dataclass(value):
    optional = optional_fields(value)
    names = [field.name for field in dataclasses.fields(value)]
    required = [name for name in names if name not in optional]
    plain = {name: to_plain(getattr(value, name)) for name in required}
    return {**plain, **_optional(value)}
  return value


def _optional(value: Any) -> dict[str, Any]:
  """The optional fields that differ from their defaults."""
  return {
    name: getattr(value, name)
    for name, default in optional_fields(value).items()
    if getattr(value, name) != default
  }


def from_plain(kind: Any, value: Any, where: str, ops: tuple[Op, ...]) -> Any:
  """The inverse of `to_plain`.

  Args:
    kind: type of the result: a dataclass, a tuple of one kind, `Op`, or a plain
      type, which the dataclass that has the field checks.
    value: plain value.
    where: path of the value in the file, for errors.
    ops: operations of the user's own.

  Raises:
    ValueError: names the field, the value, and what was expected.
  """
  if kind is Op:
    return _located(where, _op, value, ops)
  if get_origin(kind) is tuple:
    of_item = get_args(kind)[0]
    expect(isinstance(value, list), where, value, f"a list of {_what(of_item)}")
    return tuple(
      from_plain(of_item, item, f"{where}[{i}]", ops)
      for i, item in enumerate(value)
    )
  if isinstance(kind, type) and dataclasses.is_dataclass(kind):
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    check_keys(where, value, names, optional_fields(kind))
    values = {
      name: from_plain(
        hints[name], value[name], f"{where}.{name}" if where else name, ops
      )
      for name in names
      if name in value
    }
    return _located(where, kind, **values)
  return value


def _op(value: Any, ops: tuple[Op, ...]) -> Op:
  if not isinstance(value, dict):
    # The user's own operation may have another epsilon than the default.
    return named(parse_op(value, ops))
  op = named(parse_op(value.get("name"), ops))
  optional = optional_fields(op)
  check_keys(f"operation {op.name!r}", value, ["name", *optional], optional)
  return dataclasses.replace(
    op, **{k: value[k] for k in optional & value.keys()}
  )


def check_keys(
  where: str, value: Any, expected: list[str], optional: Container[str] = ()
) -> None:
  """Raises a ValueError for anything but a dict with these keys.

  Args:
    where: path of the value in the file, for errors.
    value: value to check.
    expected: all allowed keys.
    optional: those of them that may be missing.
  """
  where = where or "network"
  expect(isinstance(value, dict), where, value, f"the fields {expected}")
  missing = [k for k in expected if k not in value and k not in optional]
  unknown = sorted(value.keys() - set(expected))
  if missing or unknown:
    raise ValueError(
      f"{where}: missing fields {missing}, unknown {unknown}: expected "
      f"{expected}"
    )


def _located(
  where: str, make: Callable[..., Result], *args: Any, **kwargs: Any
) -> Result:
  """Calls `make`; its errors say where in the file the mistake is."""
  try:
    return make(*args, **kwargs)
  except ValueError as error:
    raise ValueError(f"{where}: {error}" if where else str(error)) from error


def _what(kind: type) -> str:
  return "names" if kind is Op else f"{kind.__name__.lower()}s"
