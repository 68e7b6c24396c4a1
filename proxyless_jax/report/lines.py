"""Files of JSON lines that a run appends to, whole after any kill.

Each line is a JSON object with `stage` and `step`. A run may be killed at any
moment and started again from its last checkpoint. The file then has lines of
steps that will be run a second time, and perhaps half a line; both are dropped
when it is opened. So an interrupted run leaves the same file as an
uninterrupted one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, TextIO


def open_lines(path: str, stage: str, step: int) -> TextIO:
  """Opens a file to append to, and drops the lines that are to come.

  Lines of other stages are kept: a stage that has ended would not write them
  again.

  Args:
    path: path of the file, in a folder that exists.
    stage: the stage that goes on.
    step: step of the checkpoint that was restored: later lines of `stage` are
      dropped; 0 for a fresh stage: all of its lines are.

  Raises:
    ValueError: as `read_lines`.
  """

  def is_past(line: dict) -> bool:
    # At step 0 nothing is restored: its lines will be written again too.
    return line["stage"] != stage or 0 < line["step"] <= step

  kept = b"".join(row for line, row in _read(path) if is_past(line))
  if os.path.exists(path) and os.path.getsize(path) != len(kept):
    with open(path + ".tmp", "wb") as file:
      file.write(kept)
      file.flush()
      os.fsync(file.fileno())
    os.replace(path + ".tmp", path)
  return open(path, "a", encoding="utf-8")


def write_line(file: TextIO, line: Mapping[str, Any]) -> None:
  """Appends one whole line."""
  file.write(json.dumps(line, allow_nan=False) + "\n")
  file.flush()


def read_lines(path: str | os.PathLike) -> list[dict]:
  """The lines of a file in order, without a torn last one.

  Args:
    path: path of the file; without one there are no lines.

  Raises:
    ValueError: a line is not a JSON object with a stage and a step.
  """
  return [line for line, _ in _read(os.path.expanduser(path))]


def _read(path: str) -> list[tuple[dict, bytes]]:
  """Each whole line of the file at `path`, parsed and as its bytes."""
  if not os.path.exists(path):
    return []
  with open(path, "rb") as file:
    # After the last newline there is nothing, or a line that a kill has cut.
    rows = file.read().split(b"\n")[:-1]
  return [
    (_parse(row, f"{path}, line {number}"), row + b"\n")
    for number, row in enumerate(rows, start=1)
  ]


def _parse(row: bytes, where: str) -> dict:
  try:
    line = json.loads(row)
  except ValueError:
    line = None
  if not isinstance(line, dict) or not {"stage", "step"} <= line.keys():
    raise ValueError(
      f"{where}: expected a JSON object with 'stage' and 'step', got "
      f"{row[:60]!r}; delete the line, or move the file away"
    )
  return line
