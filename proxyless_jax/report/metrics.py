"""Metrics on disk: `metrics.jsonl`, and the same scalars for TensorBoard.

`metrics.jsonl` has one flat JSON object per line: `stage`, `step`, then
scalars. A run may be killed at any moment and started again from its last
checkpoint. The file then has lines of steps that will be run a second time, and
perhaps half a line; a writer drops those as it opens. So an interrupted run
leaves the same file as an uninterrupted one, timings aside.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
  from tensorboardX import SummaryWriter

STAGES = ("search", "derive", "compare", "train")


class MetricsWriter:
  """Writes the metrics of one stage of a run; closes as a context manager.

  Metrics that should survive a resume from a checkpoint have to be written
  before that checkpoint is saved. Open a stage only if it has steps left to
  run: opening it drops the lines of those steps. Of several hosts, one writes.

  TensorBoard events go to `tensorboard/STAGE`, one folder per stage, because
  TensorBoard purges by step only: resuming one stage would hide the steps of
  another in the same folder.
  """

  def __init__(
    self,
    workdir: str | os.PathLike,
    stage: str,
    start_step: int = 0,
    *,
    stages: Sequence[str] = STAGES,
  ) -> None:
    """Opens the files, and drops the lines that will be written again.

    Args:
      workdir: folder of the run, created if missing.
      stage: one of `stages`.
      start_step: step of the checkpoint that was restored: later lines of
        `stage` are dropped; 0 for a fresh stage: all of its lines are.
      stages: all stages of the run, in the order in which they run.

    Raises:
      ValueError: an unknown stage, a negative step, or a file that is not a
        metrics file.
    """
    if stage not in stages:
      raise ValueError(f"stage = {stage!r}: expected one of {list(stages)}")
    if start_step < 0:
      raise ValueError(f"start_step = {start_step}: expected 0 or more")
    self._stage, self._step = stage, start_step
    workdir = os.fspath(workdir)
    os.makedirs(workdir, exist_ok=True)
    path = os.path.join(workdir, "metrics.jsonl")
    _drop_lines_to_come(path, stage, start_step)
    self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115
    folder = os.path.join(workdir, "tensorboard", stage)
    self._tensorboard = _tensorboard_writer(folder, start_step)

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Writes one whole line, and the same scalars for TensorBoard.

    Args:
      step: number of steps done; never less than in the call before.
      metrics: scalars by name: numbers, or NumPy or JAX arrays of one element.
        Values that are not finite become "nan", "inf" or "-inf", since JSON has
        no such numbers; `float` reads them.

    Raises:
      ValueError: a step that goes back, or the name `stage` or `step`.
      TypeError: a metric that is not a scalar.
    """
    if step < self._step:
      raise ValueError(
        f"step = {step}: the stage {self._stage!r} is at step {self._step} "
        "already; open a new writer with start_step to go back"
      )
    scalars = {name: _scalar(name, value) for name, value in metrics.items()}
    self._step = int(step)
    line = {"stage": self._stage, "step": self._step}
    line |= {name: _to_json(value) for name, value in scalars.items()}
    self._file.write(json.dumps(line, allow_nan=False) + "\n")
    self._file.flush()
    for name, value in scalars.items():
      self._tensorboard.add_scalar(f"{self._stage}/{name}", value, self._step)

  def close(self) -> None:
    """Closes all files."""
    # Each of them, even if closing the other fails.
    with contextlib.ExitStack() as stack:
      stack.callback(_close, self._tensorboard)
      stack.callback(self._file.close)

  def __enter__(self) -> MetricsWriter:
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()


def read_metrics(workdir: str | os.PathLike) -> list[dict]:
  """The lines of `metrics.jsonl` in order, without a torn last one.

  Returns:
    One dict per line; none where there is no file. Values that are not finite
    are the strings "nan", "inf" and "-inf".

  Raises:
    ValueError: a line is not a JSON object with a stage and a step.
  """
  path = os.path.join(os.path.expanduser(workdir), "metrics.jsonl")
  return [line for line, _ in _read(path)]


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


def _drop_lines_to_come(path: str, stage: str, step: int) -> None:
  """Keeps the lines that the run had written at `step` of `stage`.

  Lines of other stages are kept too: a stage that has ended would not write
  them again.
  """

  def is_past(line: dict) -> bool:
    # At step 0 nothing is restored: its metrics will be written again too.
    return line["stage"] != stage or 0 < line["step"] <= step

  kept = b"".join(row for line, row in _read(path) if is_past(line))
  if not os.path.exists(path) or os.path.getsize(path) == len(kept):
    return
  with open(path + ".tmp", "wb") as file:
    file.write(kept)
    file.flush()
    os.fsync(file.fileno())
  os.replace(path + ".tmp", path)


def _tensorboard_writer(folder: str, start_step: int) -> SummaryWriter:
  # Imported here: it takes a while, and only a run needs it.
  from tensorboardX import SummaryWriter

  earlier = len(os.listdir(folder)) if os.path.isdir(folder) else 0
  return SummaryWriter(
    # In a relative path, a part before a colon would be read as a protocol.
    os.path.abspath(folder),
    purge_step=start_step + 1 if start_step else 0,
    # A killed run loses events that are not flushed.
    flush_secs=5,
    # The file's name has whole seconds only; an existing file would be lost.
    filename_suffix=f".{earlier:04d}",
  )


def _close(tensorboard: SummaryWriter) -> None:
  """Closes a writer of events, for good.

  After a failure, as on a full disk, the writer would try again at the exit of
  the program, with tracebacks after the error that explains them.
  """
  try:
    tensorboard.close()
  except OSError:
    files = tensorboard.file_writer
    worker = getattr(files.event_writer, "_worker", None)
    if worker is not None:
      worker.stop()
    files.event_writer = io.BytesIO()  # Something that can be closed.
    raise


def _scalar(name: str, value: object) -> int | float:
  if name in ("stage", "step"):
    raise ValueError(f"metric {name!r}: the name is taken, use another")
  array = np.asarray(value)
  number = array.item() if array.size == 1 else None
  if not isinstance(number, int | float):
    raise TypeError(
      f"metric {name!r} = {value!r}: expected a number or an array of one "
      "element"
    )
  return number


def _to_json(value: int | float) -> int | float | str:
  return value if math.isfinite(value) else str(value)
