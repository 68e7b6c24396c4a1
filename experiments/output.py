"""The files in which experiments keep their results."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any


def write_json(path: str | os.PathLike, result: Any) -> None:
  """Writes a result as indented JSON.

  Args:
    path: path of the file.
    result: value that JSON can hold.
  """
  with open(path, "w", encoding="utf-8") as file:
    json.dump(result, file, indent=1)
    file.write("\n")


class Parts:
  """The parts of a result, in a file of JSON that is whole at every moment.

  An experiment that was stopped finds there what it had computed.
  """

  def __init__(self, path: str | os.PathLike, settings: dict):
    """Reads the file, or begins one.

    Args:
      path: path of the file.
      settings: everything that the parts depend on, as JSON can hold it.

    Raises:
      ValueError: the file has parts of other settings.
    """
    self._path = pathlib.Path(path)
    settings = json.loads(json.dumps(settings))
    self.values: dict[str, Any] = {"settings": settings}
    if self._path.exists():
      self.values = json.loads(self._path.read_text(encoding="utf-8"))
      if self.values["settings"] != settings:
        raise ValueError(
          f"{path} has results of the settings {self.values['settings']}: "
          f"expected {settings}; use another folder"
        )

  def get(self, name: str, compute: Callable[[], Any]) -> Any:
    """A part: as the file has it, or computed and added to the file."""
    if name not in self.values:
      self.values[name] = compute()
      part = self._path.with_suffix(".part")
      write_json(part, self.values)
      part.replace(self._path)
    return self.values[name]
