"""Objects of a `net.config`: each field is read, or refused by name."""

from __future__ import annotations

import json
from typing import Any

from proxyless_jax.space.checks import is_positive

LONGEST = 60  # Characters of a value that an error shows.
FIRST = object()


class Fields:
  """An object of a file, whose fields are read one by one.

  Attributes:
    where: path of the object in the file, such as 'blocks[3].shortcut'; '' for
      the whole file.
  """

  def __init__(self, where: str, value: object) -> None:
    if not isinstance(value, dict):
      raise ValueError(
        f"{where or 'the file'} = {shown(value)}: expected an object with "
        "fields"
      )
    self.where, self._values = where, value
    # The fields that were read, in order, as the keys.
    self._read: dict[str, None] = {}

  def at(self, field: str) -> str:
    """The path of a field in the file."""
    return f"{self.where}.{field}" if self.where else field

  def get(self, field: str, absent: Any = None) -> Any:
    """The value of a field; `absent` where the file lacks the field."""
    self._read[field] = None
    return self._values.get(field, absent)

  def expect(self, fits: object, field: str, expected: str) -> None:
    """Raises a ValueError that names the field, where `fits` is false."""
    if fits:
      return
    if field not in self._values:
      raise ValueError(f"{self.at(field)} is missing: expected {expected}")
    value = shown(self._values[field])
    raise ValueError(f"{self.at(field)} = {value}: expected {expected}")

  def only(self, field: str, *values: Any, absent: Any = FIRST) -> Any:
    """The value of a field with few supported values.

    Args:
      field: name of the field.
      *values: supported values.
      absent: value for a file without the field; by default the first of
        `values`.
    """
    value = self.get(field, values[0] if absent is FIRST else absent)
    expected = " or ".join(shown(one) for one in values)
    self.expect(value in values, field, f"{expected}: all that is supported")
    return value

  def whole(self, field: str, absent: int | None = None) -> int:
    """A positive integer."""
    value = self.get(field, absent)
    self.expect(is_positive(value), field, "a positive integer")
    return value

  def odd(self, field: str, absent: int | None = None) -> int:
    """An odd positive integer: the size of a kernel."""
    value = self.get(field, absent)
    fits = is_positive(value) and value % 2
    self.expect(fits, field, "an odd positive integer")
    return value

  def channels(self, field: str, given: int | None = None) -> int:
    """A number of channels, which some files put into a list.

    Args:
      field: name of the field.
      given: expected number, the width of the layer before it; None for any.
    """
    value = self.get(field)
    if isinstance(value, list) and len(value) == 1:
      (value,) = value
    self.expect(is_positive(value), field, "a positive integer")
    fits = given is None or value == given
    self.expect(fits, field, f"{given}, the width of the layer before it")
    return value

  def inner(self, field: str) -> Fields:
    """An object."""
    value = self.get(field)
    self.expect(isinstance(value, dict), field, "an object with fields")
    return Fields(self.at(field), value)

  def inner_or_none(self, field: str) -> Fields | None:
    """An object; None where the file has null, or lacks the field."""
    return None if self.get(field) is None else self.inner(field)

  def inner_list(self, field: str) -> list[Fields]:
    """A list of objects."""
    values = self.get(field)
    self.expect(isinstance(values, list), field, "a list of objects")
    return [
      Fields(f"{self.at(field)}[{i}]", value) for i, value in enumerate(values)
    ]

  def overridden(self, fields: dict[str, Any]) -> Fields:
    """The same object with other values for some fields."""
    return Fields(self.where, {**self._values, **fields})

  def done(self) -> None:
    """Raises a ValueError for a field that has not been read."""
    unknown = [field for field in self._values if field not in self._read]
    if unknown:
      raise ValueError(
        f"{self.at(unknown[0])} = {shown(self._values[unknown[0]])}: no such "
        f"field is supported: expected {', '.join(self._read)}"
      )


def shown(value: object) -> str:
  """A value as JSON, cut where it is long."""
  text = json.dumps(value)
  return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
