"""ledger.json: what each stage of a run cost, and on what it ran.

It is written at logs, together with the report, and at the end of a stage, so
that it also tells where a run that was stopped stands.
"""

from __future__ import annotations

import math
import os
import time
from typing import Any

import jax

from proxyless_jax.report.page import LEDGER
from proxyless_jax.run.reporting import keep_report
from proxyless_jax.run.result import environment
from proxyless_jax.run.storage.json_files import read_fields, write_json

# Between two reports: at least these seconds, and so many that writing takes no
# more than this part of the time.
PAUSE = 5.0
SHARE = 0.01
# What JAX calls compiling, or loading from the cache of compiled programs.
COMPILED = "/jax/core/compile/backend_compile_duration"


class Ledger:
  """Keeps the entry of one stage; of several hosts, one keeps it.

  The entry is what all starts of the stage took together: a run that was killed
  loses the seconds of compiling since the last report, and nothing else.
  """

  def __init__(
    self,
    workdir: str | os.PathLike,
    stage: str,
    start_step: int,
    *,
    steps: int,
    batch: int,
  ) -> None:
    """Begins or continues the entry.

    Args:
      workdir: folder of the run, which exists.
      stage: name of the stage.
      start_step: step of the checkpoint that was restored; at 0 the entry
        begins anew.
      steps: number of steps of the whole stage.
      batch: images per step.
    """
    self._workdir, self._stage = workdir, stage
    self._entry: dict[str, Any] = {"step": 0, "steps": steps, "batch": batch}
    stages = read_ledger(workdir)["stages"] if start_step else {}
    earlier = stages.get(stage, {})
    self._compiled = earlier.get("seconds_compiling", 0.0) - _compiling.seconds
    self._peak = earlier.get("peak_memory_mb", 0.0)
    self._next = -math.inf

  def log(self, step: int, seconds: float) -> None:
    """Writes the entry and the report, unless it is too soon.

    Args:
      step: number of steps done.
      seconds: seconds that all starts spent in the stage.
    """
    if time.perf_counter() >= self._next:
      self.end(step, seconds)

  def end(self, step: int, seconds: float) -> None:
    """As `log`, in any case."""
    start = time.perf_counter()
    now = environment()
    self._peak = max(self._peak, now.pop("peak_memory_mb"))
    entry = self._entry | {
      "step": step,
      "seconds": round(seconds, 3),
      "seconds_compiling": round(self._compiled + _compiling.seconds, 3),
      "peak_memory_mb": self._peak,
    }
    found = read_ledger(self._workdir)
    stages = found["stages"] | {self._stage: entry}
    path = os.path.join(self._workdir, LEDGER)
    write_json(path, {"environment": now, "stages": stages})
    keep_report(self._workdir)
    took = time.perf_counter() - start
    self._next = start + took + max(PAUSE, took / SHARE)


def read_ledger(workdir: str | os.PathLike) -> dict[str, Any]:
  """The entries of a workdir by stage; without any where there is no file."""
  path = os.path.join(workdir, LEDGER)
  if not os.path.exists(path):
    return {"environment": {}, "stages": {}}
  return read_fields(path)


class _Compiling:
  """Sums the seconds that JAX compiles in this process."""

  def __init__(self) -> None:
    self.seconds = 0.0
    jax.monitoring.register_event_duration_secs_listener(self._add)

  def _add(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
    del kwargs
    if event == COMPILED:
      self.seconds += duration_secs


_compiling = _Compiling()
