"""What the parts of `experiments.on_gpu` share: journal, budget, stopwatch.

Only the standard library at import, so that the driver does not hold the GPU.
"""

from __future__ import annotations

import json
import os
import pathlib
import time
from collections.abc import Callable
from concurrent import futures

# Of an error's text that is kept.
ERROR_LENGTH = 600
THREADS = min(16, os.cpu_count() or 1)


class Journal:
  """Rows of one part by key, in a JSON file that is whole at every moment."""

  def __init__(self, path: os.PathLike, seconds: float):
    """Opens it, or begins one.

    Args:
      path: path of the file.
      seconds: time limit of the part, from now on.
    """
    self._path = pathlib.Path(path)
    self._start, self._seconds = time.perf_counter(), seconds
    self.rows: dict[str, dict] = {}
    if self._path.exists():
      self.rows = json.loads(self._path.read_text(encoding="utf-8"))

  @property
  def left(self) -> float:
    """Seconds of the budget that are left."""
    return self._start + self._seconds - time.perf_counter()

  def __contains__(self, key: str) -> bool:
    """Whether a row is there; one that failed is tried again."""
    return "failed" not in self.rows.get(key, {"failed": "not there"})

  def add(self, key: str, row: dict) -> None:
    """Keeps a row: on the disk when this returns."""
    self.rows[key] = row
    text = json.dumps(self.rows, indent=1) + "\n"
    temporary = self._path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, self._path)
    self.log(f"{key}: {_brief(row)}")

  def log(self, text: str) -> None:
    """Prints a line of progress."""
    spent = self._seconds - self.left
    print(f"[{self._path.stem} {spent:5.0f} s] {text}", flush=True)


def _brief(row: dict) -> str:
  parts = (
    f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
    for name, value in row.items()
  )
  return ", ".join(parts)[:300]


def text_of(error: BaseException) -> str:
  """What a journal keeps of an error."""
  return f"{type(error).__name__}: {error}"[:ERROR_LENGTH]


def compile_all(
  lowered: dict, journal: Journal, threads: int = THREADS
) -> dict:
  """Compiles: name -> (program or error text, seconds).

  What is not ready when the budget ends is left out.

  Args:
    lowered: `jax.stages.Lowered` by name, the most wanted first.
    journal: whose budget counts.
    threads: number of threads that compile side by side.
  """

  def compile_one(one):
    start = time.perf_counter()
    try:
      program = one.compile()
    except Exception as error:  # A part continues with what compiles.
      program = text_of(error)
    return program, time.perf_counter() - start

  pool = futures.ThreadPoolExecutor(threads)
  jobs = {pool.submit(compile_one, one): name for name, one in lowered.items()}
  try:
    for job in futures.as_completed(jobs, timeout=max(1.0, journal.left)):
      _, spent = job.result()
      if spent > 5.0:
        journal.log(f"compiled {jobs[job]} in {spent:.1f} s")
  except TimeoutError:
    journal.log("the budget ended before all was compiled")
  pool.shutdown(wait=False, cancel_futures=True)
  return {
    name: job.result()
    for job, name in jobs.items()
    if job.done() and not job.cancelled()
  }


def seconds_of(
  run: Callable[[], object], wait: Callable[[object], object], aim: float = 0.03
) -> float:
  """Seconds of one call, many queued before each wait: the best of three.

  Args:
    run: starts the work.
    wait: function that waits for the result of `run`.
    aim: seconds of one round.
  """
  wait(run())
  start = time.perf_counter()
  wait(run())
  once = time.perf_counter() - start
  if once > 10 * aim:
    return once
  count = max(2, min(100, int(aim / max(once, 1e-6))))
  best = float("inf")
  for _ in range(3):
    start = time.perf_counter()
    for _ in range(count):
      out = run()
    wait(out)
    best = min(best, (time.perf_counter() - start) / count)
  return best
