"""A search that is killed again and again ends as one that is not.

    python -m experiments.faults [--kills 100] [--seed 0] [--out FILE]

Searches of seconds are killed by SIGKILL and SIGTERM at random moments, many of
them while a checkpoint is being written. After each kill every checkpoint on
disk has to be, bit for bit, that of the unbroken run at its step; and each
search is started again until it ends, with the architecture, metrics, results,
states and positions of the data of the unbroken one. Then come other faults:
`experiments.other_faults`. Needs the extra `demo`; as root it mounts a small
file system for some.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import platform
import random
import shutil
import signal
import statistics
import tempfile
import time

import jax

from experiments import other_faults, short_search
from experiments.output import write_json
from experiments.short_search import Place
from proxyless_jax.run.hosts.preemption import STOPPED

SIGNALS = ("SIGKILL", "SIGTERM")
# Most of the life of so short a search is its start.
AIMS = {"any moment": 0.4, "a checkpoint": 0.4, "a step": 0.2}
MOST_KILLS = 4  # Of one search.
COLD = 0.1  # Of the searches, compile anew: the cache is written too.


@dataclasses.dataclass
class Kill:
  """A kill, where it hit, and what was on disk after it.

  Attributes:
    signal: name of the signal.
    aim: one of `AIMS`.
    where: what the process was doing.
    ended: how the process ended.
    seconds: time that the process took to end.
    whole: checkpoints on disk that are those of the unbroken run.
    wrong: the others.
    half_written: whether one was left half written.
  """

  signal: str
  aim: str
  where: str
  ended: str
  seconds: float
  whole: int
  wrong: list[str]
  half_written: bool


@dataclasses.dataclass(frozen=True)
class Reference:
  """The unbroken run.

  Attributes:
    outcome: `short_search.outcome` of it.
    states: manifest of each checkpoint, by stage and step.
    seconds: time from start to end, with all programs in the cache.
  """

  outcome: dict
  states: dict
  seconds: float


def unbroken(place: Place) -> Reference:
  """Runs the search twice: with all its checkpoints, and as the others do."""
  workdir = place.root / "unbroken"
  every = ("--config.run.checkpoint_every=1", "--config.run.keep=1000")
  place.finish(workdir, *every)
  states = {
    (path.parent.name, int(path.name)): short_search.contents(path)
    for path in short_search.checkpoints(workdir)
  }
  start = time.perf_counter()
  again = place.root / "again"
  place.finish(again)
  seconds = time.perf_counter() - start
  outcome = short_search.outcome(workdir)
  if short_search.outcome(again) != outcome:
    raise RuntimeError("two unbroken runs differ: nothing can be compared")
  return Reference(outcome, states, seconds)


def killed_search(place, reference, name: str, kills: int, seed: int):
  """One search, or more where they end first, with so many kills.

  Returns:
    The kills, and for each search that ended whether it ended as the unbroken.
  """
  rng = random.Random(seed)
  done, same = [], []
  while len(done) < kills:
    workdir = place.root / f"{name}.{len(same)}" / "run"
    cache = f"cold.{name}" if rng.random() < COLD else "compiled"
    while len(done) < kills:
      process = place.start(workdir, cache=cache)
      kill = _kill(process, workdir, reference, rng)
      if kill is None:
        break
      done.append(kill)
    place.finish(workdir, cache=cache)
    same.append(short_search.outcome(workdir) == reference.outcome)
    if same[-1]:
      shutil.rmtree(workdir.parent)
  shutil.rmtree(place.root / f"cold.{name}", ignore_errors=True)
  return done, same


def _kill(process, workdir, reference: Reference, rng) -> Kill | None:
  """Kills the process as it runs; None where it ends before."""
  (aim,) = rng.choices(list(AIMS), AIMS.values())
  name = rng.choice(SIGNALS)
  if not _wait_for(aim, process, workdir, reference, rng):
    return None
  where = _where(workdir)
  start = time.perf_counter()
  process.send_signal(signal.Signals[name])
  if name == "SIGTERM" and rng.random() < 0.25:
    time.sleep(rng.uniform(0, 0.05))
    process.send_signal(signal.SIGTERM)
  code = process.wait(timeout=300)
  seconds = time.perf_counter() - start
  whole, wrong = 0, []
  for path in short_search.checkpoints(workdir):
    try:
      found = short_search.contents(path)
      same = found == reference.states[path.parent.name, int(path.name)]
    # Whatever a damaged file raises.
    except Exception as error:
      same = False
      print(f"{path}: {error}", flush=True)
    whole, wrong = whole + same, wrong + [str(path)] * (not same)
  ended = _ended(code, short_search.log_of(workdir).read_text())
  left = bool(short_search.half_written(workdir))
  return Kill(name, aim, where, ended, seconds, whole, wrong, left)


def _wait_for(aim: str, process, workdir, reference, rng) -> bool:
  """Waits for the moment; False where the process ends before."""
  begin, log = time.perf_counter(), short_search.log_of(workdir)
  if aim == "any moment":
    until = begin + rng.uniform(0, reference.seconds)
    reached = lambda: time.perf_counter() > until  # noqa: E731
    delay = 0.0
  elif aim == "a checkpoint":
    count, seen = rng.randint(1, 8), set()

    def reached():
      seen.update(n.split(".")[0] for n in short_search.half_written(workdir))
      return len(seen) >= count

    # A write takes some hundredths of a second.
    delay = rng.uniform(0, 0.04)
  else:
    reached = lambda: "step took" in log.read_text()  # noqa: E731
    delay = rng.uniform(0, 0.3 * reference.seconds)
  while not reached():
    if process.poll() is not None:
      return False
    time.sleep(0.002)
  time.sleep(delay)
  return process.poll() is None


def _where(workdir) -> str:
  """What the process does, as its files and what it prints tell."""
  if short_search.half_written(workdir):
    return "checkpoint write"
  lines = short_search.log_of(workdir).read_text().splitlines()
  stages = [line.split(" ")[0].rstrip(":") for line in lines]
  stage = next((s for s in reversed(stages) if s in short_search.STAGES), None)
  if stage is None:
    return "start-up"
  of_stage = [line for line, s in zip(lines, stages) if s.startswith(stage)]
  last = of_stage[-1]
  if "compiling the first" in last or "resumed" in last:
    return f"first step of {stage}"
  steps = short_search.STAGES[stage]
  if last.startswith(f"{stage} {steps}/{steps} "):
    return {"search": "derivation", "train": "evaluation"}[stage]
  return {"search": "search", "train": "training"}[stage]


def _ended(code: int, text: str) -> str:
  if code == 0:
    return "stopped, exit 0" if STOPPED in text else "had ended, exit 0"
  if code < 0:
    return f"ended by {signal.Signals(-code).name}"
  return f"exit {code}: {text[-500:]}"


def plan(kills: int, rng) -> list[int]:
  """How many kills each search gets."""
  parts = []
  while sum(parts) < kills:
    parts.append(min(rng.randint(1, MOST_KILLS), kills - sum(parts)))
  return parts


def kill_all(place, reference, kills: int, seed: int, jobs: int) -> dict:
  """The kills, several searches at a time; counts what came of them."""
  parts = plan(kills, random.Random(seed))
  done, same = [], []
  with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
    futures = [
      pool.submit(killed_search, place, reference, f"search{i}", n, seed + i)
      for i, n in enumerate(parts)
    ]
    for future in concurrent.futures.as_completed(futures):
      kills_of_one, same_of_one = future.result()
      done, same = done + kills_of_one, same + same_of_one
      print(
        f"{len(done)} kills, {sum(same)} of {len(same)} the same", flush=True
      )
  return {
    "kills": len(done),
    "searches_ended": len(same),
    "searches_identical": sum(same),
    "by_signal": _count(k.signal for k in done),
    "by_aim": _count(k.aim for k in done),
    "by_where": _count(f"{k.where}, {k.signal}" for k in done),
    "by_end": _count(f"{k.signal}: {k.ended}" for k in done),
    "checkpoints_on_disk_whole": sum(k.whole for k in done),
    "checkpoints_on_disk_wrong": sum(len(k.wrong) for k in done),
    "left_half_written": sum(k.half_written for k in done),
    "seconds_from_sigterm": _spread(
      k.seconds for k in done if k.ended.startswith("stopped")
    ),
  }


def _count(values) -> dict[str, int]:
  return dict(sorted(collections.Counter(values).items()))


def _spread(values) -> dict[str, float]:
  values = list(values) or [0.0]
  return {"median": statistics.median(values), "largest": max(values)}


def main() -> None:
  """Kills first, then the other faults."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--kills", type=int, default=100)
  parser.add_argument("--times", type=int, default=3, help="each other fault")
  parser.add_argument("--jobs", type=int, default=2, help="searches at a time")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--out", help="file for the results, JSON")
  arguments = parser.parse_args()
  start = time.perf_counter()
  with tempfile.TemporaryDirectory() as root:
    place = Place(pathlib.Path(root))
    short_search.write_data(place.data)
    reference = unbroken(place)
    print(f"unbroken: {reference.seconds:.1f} s", flush=True)
    found = kill_all(
      place, reference, arguments.kills, arguments.seed, arguments.jobs
    )
    print(json.dumps(found, indent=1), flush=True)
    others = other_faults.meet_all(
      place, reference.outcome, arguments.times, arguments.seed
    )
  summary = {
    "device": jax.devices()[0].device_kind,
    "cores": os.cpu_count(),
    "python": platform.python_version(),
    "seed": arguments.seed,
    "seconds": time.perf_counter() - start,
    "seconds_unbroken": reference.seconds,
    **found,
    "other_faults": others,
  }
  if arguments.out:
    write_json(arguments.out, summary)


if __name__ == "__main__":
  main()
