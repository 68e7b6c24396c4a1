"""JSON files that are always whole, whenever the process is killed."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

from proxyless_jax.run.storage.whole import whole_file


def write_json(path: str | os.PathLike, obj: Any) -> None:
  """Writes `obj` as JSON; a kill leaves the old file or the new one.

  Args:
    path: path of the file, in a folder that exists.
    obj: a config as in `claim`, or a value that such a config may have.

  Raises:
    ValueError: a NaN, an infinity, or a value of a type that JSON does not
      have; names its dotted path.
  """
  path = os.fspath(path)
  text = json.dumps(plain(obj, os.path.basename(path)), indent=2)
  with whole_file(path, encoding="utf-8") as file:
    file.write(text + "\n")


def read_json(path: str | os.PathLike) -> Any:
  """The value that `write_json` wrote, tuples as lists.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is not JSON.
  """
  with open(path, encoding="utf-8") as file:
    text = file.read()
  try:
    return json.loads(text)
  except ValueError as error:
    raise ValueError(
      f"{os.fspath(path)}: expected JSON ({error}), got {text[:60]!r}; "
      "restore the file, or move it away"
    ) from error


def read_fields(path: str | os.PathLike) -> dict:
  """The JSON object in a file.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is not JSON, or another value than an object.
  """
  fields = read_json(path)
  if not isinstance(fields, dict):
    raise ValueError(
      f"{os.fspath(path)}: expected a JSON object, such as {{...}}, got "
      f"{json.dumps(fields)[:60]}; restore the file, or move it away"
    )
  return fields


def plain(value: Any, name: str) -> Any:
  """A value as `read_json` reads it back.

  Args:
    value: value that JSON can hold; tuples become lists.
    name: name of the value, for errors.

  Raises:
    ValueError: as `write_json`.
  """
  if isinstance(value, Mapping):
    for key in value:
      if not isinstance(key, str):
        raise ValueError(f"{name}: expected keys that are str, got {key!r}")
    return {key: plain(item, f"{name}.{key}") for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [plain(item, f"{name}[{i}]") for i, item in enumerate(value)]
  if isinstance(value, float) and not math.isfinite(value):
    raise ValueError(
      f"{name} = {value}: expected a finite number, since JSON has no other; "
      "use None, or a str"
    )
  if value is not None and not isinstance(value, bool | int | float | str):
    raise ValueError(
      f"{name} = {value!r}: expected bool, int, float, str, None, or lists "
      f"and dicts of them, got {type(value).__name__}; convert it"
    )
  return value
