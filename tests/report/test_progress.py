import io
import math
import os
import timeit

import pytest

from proxyless_jax.report import Longer, Progress, format_seconds, format_value
from proxyless_jax.report import progress as progress_module


class Terminal(io.StringIO):
  def isatty(self):
    return True


class Clock:
  """A clock that the test moves."""

  def __init__(self):
    self.now = 100.0

  def perf_counter(self):
    return self.now


@pytest.fixture
def clock(monkeypatch):
  clock = Clock()
  monkeypatch.setattr(progress_module, "time", clock)
  return clock


def test_plain_lines_where_there_is_no_terminal(clock):
  stream = io.StringIO()
  units = {"cost": "MACs"}
  with Progress(
    "search", 100, batch=32, units=units, stream=stream
  ) as progress:
    clock.now += 80
    progress.update(1)
    for step in range(2, 12):
      clock.now += 0.5
      progress.update(step)
    progress.log(11, {"loss": 2.0, "accuracy": 0.25, "cost": 40.2e6})
    progress.message("saved")
  assert stream.getvalue().splitlines() == [
    "search: compiling the first step ...",
    "search: first step took 1m20s, compiling included",
    "search 11/100  44s left  loss 2.000  accuracy 0.2500  cost 40.2M MACs  "
    "64.00 images/s  500.0 ms/step",
    "saved",
  ]


def test_one_live_line_on_a_terminal(clock):
  stream = Terminal()
  with Progress("train", 50, 10, batch=8, stream=stream) as progress:
    clock.now += 5
    for step in range(11, 51):
      clock.now += 0.1
      progress.update(step)
      if step % 10 == 0:
        progress.log(step, {"loss": step})
      if step == 30:
        progress.message("checkpoint saved")
  lines = stream.getvalue().split("\n")
  # What stays: two messages, and the live line as it was last drawn.
  stay = [line.split("\r")[-1].strip() for line in lines]
  assert stay[0] == "train: first step took 5s, compiling included"
  assert stay[1] == "checkpoint saved"
  assert (
    "train 50/50  0s left  loss 50  80.00 images/s  100.0 ms/step" in (stay[2])
  )
  assert stay[3:] == [""]
  assert "compiling the first step" in stream.getvalue()
  assert "train 40/50" in stream.getvalue()


def test_a_terminal_of_no_size_gets_plain_lines():
  # What a container without a screen gives.
  leader, follower = os.openpty()
  shown = b""
  with os.fdopen(follower, "w") as stream, os.fdopen(leader, "rb", 0) as screen:
    assert stream.isatty()
    with Progress("train", 5, batch=1, stream=stream) as progress:
      progress.log(1, {"loss": 2.0})
      progress.message("end")
    while not shown.endswith(b"end\r\n"):
      shown += screen.read(1000)
  assert b"\r\ntrain 1/5  loss 2.000\r\n" in shown


def test_rate_leaves_out_compiling_pauses_and_stalls(clock):
  progress = Progress("search", 1000, batch=10, stream=io.StringIO())
  clock.now += 300
  progress.update(1)
  clock.now += 7  # The first fetch waits for the first step to run.
  progress.log(1, {})
  assert math.isnan(progress.seconds_per_step)
  for step in range(2, 52):
    clock.now += 0.2
    progress.update(step)
    if step == 13:
      clock.now += 60
    if step == 33:
      with progress.pause():
        clock.now += 900
    if step % 10 == 1:
      progress.log(step, {})
  assert progress.seconds_per_step == pytest.approx(0.2)


def take(progress, clock, steps, seconds, log_every):
  """Takes steps that take so many seconds."""
  for step in steps:
    progress.begin(step)
    clock.now += seconds(step)
    progress.update(step + 1)
    if (step + 1) % log_every == 0:
      progress.log(step + 1, {})


ARCH = Longer("with architecture", range(20, 60, 5))


def seconds_of(step, compiles=(0, 20)):
  return (12 if step in compiles else 1) + (4 if step in ARCH.steps else 0)


def test_steps_of_another_kind_are_announced_and_counted(clock):
  stream = io.StringIO()
  progress = Progress("search", 60, batch=8, longer=ARCH, stream=stream)
  take(progress, clock, range(60), seconds_of, log_every=10)
  first, took, *lines = stream.getvalue().splitlines()
  assert first == "search: compiling the first step ..."
  assert took == "search: first step took 12s, compiling included"
  # Before a longer step was seen, each counts as another.
  assert lines[0].startswith("search 10/60  at least 50s left  8.000 images/s")
  assert lines[1].startswith("search 20/60  at least 40s left")
  assert lines[2] == "search: compiling the first step with architecture ..."
  assert lines[3] == (
    "search: first step with architecture took 16s, compiling included"
  )
  # 30 steps, of which 6 take 5 seconds.
  assert lines[4].startswith("search 30/60  54s left")
  assert lines[6].startswith("search 50/60  18s left")
  assert lines[7].startswith("search 60/60  0s left")


def test_time_left_where_all_steps_become_faster(clock):
  stream = io.StringIO()
  progress = Progress("search", 60, batch=8, longer=ARCH, stream=stream)
  take(progress, clock, range(20), seconds_of, log_every=10)
  take(
    progress, clock, range(20, 50), lambda s: 0.1 * seconds_of(s), log_every=10
  )
  line = stream.getvalue().splitlines()[-1]
  assert line.startswith("search 50/60  2s left")


def test_time_left_of_a_search_that_was_resumed(clock):
  stream = io.StringIO()
  progress = Progress("search", 60, 25, batch=8, longer=ARCH, stream=stream)
  take(progress, clock, range(25, 50), seconds_of, log_every=10)
  lines = stream.getvalue().splitlines()
  assert lines[0] == "search: compiling the first step with architecture ..."
  # Such a step compiles what the others do.
  assert [line for line in lines if "compiling" in line] == lines[:2]
  # No span without such a step: the mean of all.
  assert lines[-1].startswith("search 50/60  18s left")


def test_longer_steps_are_counted():
  for begin in range(70):
    for end in range(begin, 70):
      counted = sum(step in ARCH.steps for step in range(begin, end))
      assert ARCH.count(begin, end) == counted


def test_a_finished_stage_has_nothing_to_compile():
  stream = io.StringIO()
  with Progress("train", 5, 5, batch=1, stream=stream):
    pass
  assert stream.getvalue() == ""


def test_update_is_cheap():
  progress = Progress("train", 10**6, batch=1, stream=Terminal())
  count = 10_000
  # Microseconds measured; a bound that only a draw a step would break.
  assert timeit.timeit(lambda: progress.update(5), number=count) < count * 5e-5
  progress.close()


@pytest.mark.parametrize(
  ("seconds", "text"),
  [
    (0, "0s"),
    (59.4, "59s"),
    (59.6, "1m00s"),
    (80, "1m20s"),
    (3599.7, "1h00m"),
    (7500, "2h05m"),
    (273_600, "3d04h"),
  ],
)
def test_format_seconds(seconds, text):
  assert format_seconds(seconds) == text


@pytest.mark.parametrize(
  ("value", "unit", "text"),
  [
    (40.2e6, "MACs", "40.2M MACs"),
    (320_428_000, "MACs", "320M MACs"),
    (80.1234, "ms", "80.12 ms"),
    (0.45, None, "0.4500"),
    (-3.0, None, "-3.000"),
    (12, None, "12"),
    (0, None, "0"),
    (0.0, None, "0.000"),
    (5e-5, None, "5.000e-05"),
    (9999, None, "9999"),
    (9999.7, None, "10.0K"),
    (999_999, "parameters", "1.00M parameters"),
    (1.5e18, None, "1.50e+06T"),
    (math.nan, "ms", "nan ms"),
    (-math.inf, None, "-inf"),
  ],
)
def test_format_value(value, unit, text):
  assert format_value(value, unit) == text


def test_errors_name_the_field():
  with pytest.raises(ValueError, match="start_step = 6: expected 0 to steps"):
    Progress("train", 5, 6, batch=1)
  with pytest.raises(ValueError, match="batch = 0"):
    Progress("train", 5, batch=0)
