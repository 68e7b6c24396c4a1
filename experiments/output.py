"""The files in which experiments keep their results."""

from __future__ import annotations

import json
from typing import Any


def write_json(path: str, result: Any) -> None:
  """Writes a result as indented JSON.

  Args:
    path: path of the file.
    result: value that JSON can hold.
  """
  with open(path, "w", encoding="utf-8") as file:
    json.dump(result, file, indent=1)
    file.write("\n")
