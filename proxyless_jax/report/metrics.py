"""Metrics on disk: `metrics.jsonl`, and the same scalars for TensorBoard.

`metrics.jsonl` has one flat JSON object per line: `stage`, `step`, then
scalars. An interrupted run leaves the same file as an uninterrupted one,
timings aside: see `lines`. A search also writes alpha, see `alpha`.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from proxyless_jax.report.alpha import FILE as ALPHA_FILE
from proxyless_jax.report.alpha import plain_alpha
from proxyless_jax.report.lines import open_lines, read_lines, write_line
from proxyless_jax.report.tensorboard import (
  AlphaEvents,
  close_events,
  open_events,
)

if TYPE_CHECKING:
  from proxyless_jax.space import Network

FILE = "metrics.jsonl"
STAGES = ("search", "derive", "compare", "train")


class MetricsWriter:
  """Writes the metrics of one stage of a run; closes as a context manager.

  Metrics that should survive a resume from a checkpoint have to be written
  before that checkpoint is saved. Open a stage only if it has steps left to
  run: opening it drops the lines of those steps. Of several hosts, one writes.
  """

  def __init__(
    self,
    workdir: str | os.PathLike,
    stage: str,
    start_step: int = 0,
    *,
    space: Network | None = None,
    stages: Sequence[str] = STAGES,
  ) -> None:
    """Opens the files, and drops the lines that will be written again.

    Args:
      workdir: folder of the run, created if missing.
      stage: one of `stages`.
      start_step: step of the checkpoint that was restored: later lines of
        `stage` are dropped; 0 for a fresh stage: all of its lines are.
      space: the search space of a stage that trains alpha.
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
    path = os.path.join(workdir, FILE)
    self._file = open_lines(path, stage, start_step)
    self._events = open_events(workdir, stage, start_step)
    self._counts: list[int] = []
    if space is not None:
      self._counts = [len(edge.ops) for edge in space.edges]
      path = os.path.join(workdir, ALPHA_FILE)
      self._alpha_file = open_lines(path, stage, start_step)
      self._alpha_events = AlphaEvents(self._events, stage, space)

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
    write_line(self._file, line)
    for name, value in scalars.items():
      self._events.add_scalar(f"{self._stage}/{name}", value, self._step)

  def write_alpha(self, step: int, alpha: np.ndarray) -> None:
    """Writes alpha to `alpha.jsonl`, and its histograms for TensorBoard.

    Args:
      step: number of steps done.
      alpha: f[e, k], logits of the space's candidates, padded. Where one is
        not finite nothing is written, since JSON has no such numbers, and a
        run does not go on with it.
    """
    if not np.isfinite(alpha).all():
      return
    logits = plain_alpha(alpha, self._counts)
    line = {"stage": self._stage, "step": int(step), "alpha": logits}
    write_line(self._alpha_file, line)
    self._alpha_events.write(int(step), logits)

  def close(self) -> None:
    """Closes all files."""
    # Each of them, even if closing the other fails.
    with contextlib.ExitStack() as stack:
      stack.callback(close_events, self._events)
      stack.callback(self._file.close)
      if self._counts:
        stack.callback(self._alpha_file.close)

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
  return read_lines(os.path.join(workdir, FILE))


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
