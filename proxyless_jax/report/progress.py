"""Progress for people: steps done, speed and metrics of a stage.

On a terminal there is one live line; elsewhere (a log file, a batch system)
there are plain lines, one per call of `log`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TextIO

from tqdm import tqdm

# The live line is drawn at most this often, in seconds.
REDRAW = 0.2
# The rate is the median over this many spans between two calls of `log`: many
# enough to ignore a stall, few enough to follow a lasting change.
SPANS = 9


@dataclasses.dataclass(frozen=True)
class Longer:
  """Steps of a stage that do what all its steps do, and more.

  Attributes:
    what: what they do, such as 'with architecture'.
    steps: their numbers, counted from 0.
  """

  what: str
  steps: range

  def count(self, begin: int, end: int) -> int:
    """How many of the steps from `begin` to `end`, which is not one of them."""
    first, last, every = self.steps.start, self.steps.stop, self.steps.step
    before, until = (
      len(range(first, min(step, last), every)) for step in (begin, end)
    )
    return until - before


class Progress:
  """Shows one stage of a run; closes as a context manager.

      with Progress("train", steps=1000, batch=256) as progress:
        for step in range(1000):
          progress.begin(step)
          state, metrics = train_step(state, next(batches))
          progress.update(step + 1)
          if (step + 1) % 100 == 0:
            progress.log(step + 1, jax.device_get(metrics))

  The rate is measured between calls of `log`, since fetching metrics waits for
  the device, while a step only queues its work. Steps that compile, and
  anything under `pause`, do not count; the median ignores other stalls. Where
  some steps are `longer`, the time left counts both kinds. Of several hosts,
  one shows progress.
  """

  def __init__(
    self,
    stage: str,
    steps: int,
    start_step: int = 0,
    *,
    batch: int,
    units: Mapping[str, str] | None = None,
    longer: Longer | None = None,
    stream: TextIO | None = None,
  ) -> None:
    """Begins the stage, and its first step.

    Args:
      stage: name of the stage.
      steps: number of steps of the whole stage.
      start_step: number of steps that an earlier run has done.
      batch: number of images per step, over all devices.
      units: units of metrics by name, such as {"cost": "MACs"}.
      longer: steps that take longer than the others; None for none.
      stream: stream to write to; by default standard error.

    Raises:
      ValueError: `start_step` is not from 0 to `steps`, or `batch` is below 1.
    """
    if not 0 <= start_step <= steps:
      raise ValueError(
        f"start_step = {start_step}: expected 0 to steps = {steps}"
      )
    if batch < 1:
      raise ValueError(f"batch = {batch}: expected 1 image or more a step")
    self._stage, self._steps, self._step = stage, steps, start_step
    self._batch, self._units = batch, dict(units or {})
    self._stream = sys.stderr if stream is None else stream
    self._longer = longer or Longer("", range(0))
    self._spans: deque[float] = deque(maxlen=SPANS)
    # The same of spans without longer steps; and of those with some: their
    # seconds, and the numbers of other and of longer steps.
    self._plain: deque[float] = deque(maxlen=SPANS)
    self._mixed: deque[tuple[float, int, int]] = deque(maxlen=SPANS)
    self._metrics = ""
    self._drawn = time.perf_counter()
    # Step and time at which the span that is being measured began.
    self._span: tuple[int, float] | None = None
    # Whether steps that are longer, and that are not, have been compiled.
    self._compiled: set[bool] = set()
    # What is being compiled, and since when.
    self._compiling: tuple[str, float] | None = None
    self._bar = self._make_bar() if _is_terminal(self._stream) else None
    if start_step < steps:
      self.begin(start_step)

  @property
  def seconds_per_step(self) -> float:
    """Median over the last spans; NaN before the first one has ended."""
    return statistics.median(self._spans) if self._spans else math.nan

  def begin(self, step: int) -> None:
    """Announces a step that compiles; cheap enough for every step.

    Args:
      step: number of the step that begins, counted from 0.
    """
    longer = step in self._longer.steps
    if longer in self._compiled:
      return
    self._compiled |= {longer, False}  # Longer steps do what the others do.
    what = f"first step {self._longer.what}" if longer else "first step"
    self._compiling = (what, time.perf_counter())
    self._note(f"{self._stage}: compiling the {what} ...")

  def update(self, step: int) -> None:
    """Records that `step` steps are done; cheap enough for every step."""
    self._step = step
    if self._compiling:
      self._has_compiled(*self._compiling)
    elif self._bar and time.perf_counter() - self._drawn > REDRAW:
      self._draw(self._bar)

  def log(self, step: int, metrics: Mapping[str, float]) -> None:
    """Shows metrics, already fetched from the device, after `step` steps."""
    now = time.perf_counter()
    self._step = step
    if self._compiling:
      self._has_compiled(*self._compiling)
    elif self._span:
      self._measure(self._span[0], step, now - self._span[1])
      self._span = (step, now)
    self._metrics = "  ".join(
      f"{name} {format_value(value, self._units.get(name))}"
      for name, value in metrics.items()
    )
    if self._bar:
      self._draw(self._bar)
    else:
      self._print(self._line())

  def message(self, text: str) -> None:
    """Writes lines that stay, above the live line if there is one."""
    if self._bar:
      self._bar.write(text, file=self._stream)
    else:
      self._print(text)

  @contextlib.contextmanager
  def pause(self) -> Iterator[None]:
    """Excludes the time inside from the rate: evaluation, checkpoints."""
    start = time.perf_counter()
    try:
      yield
    finally:
      if self._span is not None:
        paused = time.perf_counter() - start
        self._span = (self._span[0], self._span[1] + paused)

  def close(self) -> None:
    """Leaves the last state of the live line on the terminal."""
    if self._bar:
      if self._span is not None:
        self._draw(self._bar)
      self._bar.close()
      self._bar = None

  def __enter__(self) -> Progress:
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()

  def _has_compiled(self, what: str, since: float) -> None:
    now = time.perf_counter()
    self._span, self._compiling = (self._step, now), None
    seconds = format_seconds(now - since)
    self.message(f"{self._stage}: {what} took {seconds}, compiling included")

  def _measure(self, begin: int, end: int, seconds: float) -> None:
    """Records a span of steps."""
    if end <= begin:
      return
    self._spans.append(seconds / (end - begin))
    longer = self._longer.count(begin, end)
    if longer:
      self._mixed.append((seconds, end - begin - longer, longer))
    else:
      self._plain.append(self._spans[-1])

  def _seconds_left(self) -> float:
    """An estimate; a lower bound before the first span with longer steps."""
    longer = self._longer.count(self._step, self._steps)
    other = self._steps - self._step - longer
    if not (self._plain and self._mixed):
      return (other + longer) * self.seconds_per_step
    of_other = statistics.median(self._plain)
    # Perhaps below `of_other`, where all steps have become faster since it was
    # measured: then the sum is that of the newer spans.
    of_longer = statistics.median(
      (seconds - n * of_other) / m for seconds, n, m in self._mixed
    )
    return max(0.0, other * of_other + longer * of_longer)

  def _make_bar(self) -> tqdm:
    return tqdm(
      total=self._steps,
      initial=self._step,
      file=self._stream,
      bar_format="{bar:10} {desc}",
      dynamic_ncols=True,
    )

  def _note(self, text: str) -> None:
    if self._bar:
      self._bar.set_description_str(text)
    else:
      self._print(text)

  def _draw(self, bar: tqdm) -> None:
    self._drawn = time.perf_counter()
    bar.n = self._step
    bar.set_description_str(self._line())

  def _print(self, text: str) -> None:
    print(text, file=self._stream, flush=True)

  def _line(self) -> str:
    parts = [f"{self._stage} {self._step}/{self._steps}"]
    if self._spans:
      seconds = self.seconds_per_step
      unknown = not self._mixed and self._longer.count(self._step, self._steps)
      left = format_seconds(self._seconds_left())
      parts += [f"at least {left} left" if unknown else f"{left} left"]
    if self._metrics:
      parts += [self._metrics]
    # Last, so that a narrow terminal cuts the rate and not the metrics.
    if self._spans:
      parts += [
        f"{format_value(self._batch / seconds)} images/s",
        f"{format_value(1e3 * seconds)} ms/step",
      ]
    return "  ".join(parts)


def _is_terminal(stream: TextIO) -> bool:
  if not stream.isatty():
    return False
  try:
    # In a container a terminal may have no size, so that no line fits.
    return os.get_terminal_size(stream.fileno()).columns > 0
  except OSError:
    return True


def format_seconds(seconds: float) -> str:
  """A duration in its two largest units: 45s, 1m20s, 2h05m, 3d04h."""
  seconds = round(seconds)
  minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
  if days:
    return f"{days}d{hours % 24:02d}h"
  if hours:
    return f"{hours}h{minutes % 60:02d}m"
  if minutes:
    return f"{minutes}m{seconds % 60:02d}s"
  return f"{seconds}s"


def format_value(value: float, unit: str | None = None) -> str:
  """A number to 4 significant digits, and its unit: 0.4512, 80.12 ms.

  From 10,000 on: 3 digits, and K, M, G or T for powers of 1,000: 40.2M MACs.
  """
  if isinstance(value, int) and abs(value) < 1e4:
    text = str(value)
  elif not math.isfinite(value):
    text = str(float(value))
  elif abs(value) < 9999.5:
    text = f"{float(value):#.4g}".rstrip(".")
  else:
    # Rounded before its power is taken, or 999,999 would be 1.00e+03K.
    value = float(f"{float(value):.2e}")
    power = min(4, int(math.log10(abs(value)) // 3))
    text = f"{value / 1e3**power:#.3g}".rstrip(".") + " KMGT"[power]
  return f"{text} {unit}" if unit else text
