"""Does a newcomer's first run find a better network than chance does?

    python -m experiments.first_run --out DIR [--seeds 0 1 2 3 4]

For each seed, in processes of their own: the README's job as a user starts it,
compiling everything, then the job 'random' in the same workdir, which trains
ten networks drawn near the same target by the same recipe. Four bars:

    seconds    the first job takes 300 seconds at most
    supernet   with the supernet's weights, batch norm with the statistics of
               the images, the derived network has at least 0.8 of the accuracy
               that it has after its own training
    entropy    the gates' entropy ends at half of its start or below; only for
               a method that trains them: null otherwise
    baseline   the found network is better than the mean of the random ones by
               at least one standard deviation of theirs

DIR keeps the runs and a line for each seed, `first_run.jsonl`: what is there
is not done again, and a run that was stopped goes on. The seconds of a run that
was stopped are those of its stages, without its starts. `DIR/first_run.json`
has everything. `--config` and the flags after `--` make other jobs of it:

    python -m experiments.first_run --out DIR --config mnist:published
    python -m experiments.first_run --out DIR -- --config.search.paths=6
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import jax

from experiments.output import write_json

CONFIG = "configs/mnist.py"
SECONDS, SUPERNET, ENTROPY, Z = 300.0, 0.8, 0.5, 1.0


def main(argv: Sequence[str] | None = None) -> dict:
  """Runs what is not done, and prints and writes everything."""
  arguments = parser().parse_args(argv)
  arguments.out.mkdir(parents=True, exist_ok=True)
  journal = arguments.out / "first_run.jsonl"
  done = read_journal(journal)
  for seed in arguments.seeds:
    if seed not in [entry["seed"] for entry in done]:
      done.append(measure(arguments, seed))
      with journal.open("a", encoding="utf-8") as file:
        file.write(json.dumps(done[-1]) + "\n")
  found = {
    "config": arguments.config,
    "flags": arguments.flags,
    "device": jax.devices()[0].device_kind,
    "cores": os.cpu_count(),
    **summary(done),
    "seeds": sorted(done, key=lambda entry: entry["seed"]),
  }
  write_json(str(arguments.out / "first_run.json"), found)
  print(json.dumps(found, indent=1))
  return found


def measure(arguments: argparse.Namespace, seed: int) -> dict:
  """What the run of a seed found, and whether it meets the bars."""
  workdir = arguments.out / f"seed-{seed}"
  fresh = not workdir.exists()
  flags = [f"--config.seed={seed}", *arguments.flags]
  started = time.perf_counter()
  run(arguments.config, workdir, flags)
  seconds = time.perf_counter() - started
  result = read_json(workdir / "result.json")
  if not fresh:
    seconds = sum(v for k, v in result.items() if k.startswith("seconds_"))
  flags.append(f"--config.random.count={arguments.count}")
  run(arguments.config, workdir, [*flags, "--config.job=random"])
  result = read_json(workdir / "result.json")
  found = judge(seed, seconds, result, read_json(workdir / "compared.json"))
  shutil.rmtree(cache_of(workdir), ignore_errors=True)
  return found


def run(config: str, workdir: pathlib.Path, flags: Sequence[str]) -> None:
  """Runs a job as a user does; what is compiled is the workdir's own.

  Raises:
    subprocess.CalledProcessError: the job failed.
  """
  cache = {"JAX_COMPILATION_CACHE_DIR": str(cache_of(workdir))}
  command = [sys.executable, "-m", "proxyless_jax.main", f"--config={config}"]
  subprocess.run(
    [*command, f"--workdir={workdir}", *flags],
    env={**os.environ, **cache},
    check=True,
  )


def judge(seed: int, seconds: float, result: dict, compared: dict) -> dict:
  """The entry of a seed.

  Args:
    seed: seed of the run.
    seconds: duration of its search and training.
    result: contents of `result.json`, after the job 'random'.
    compared: contents of `compared.json`, of which the last is the found one.
  """
  entropy = result["entropy_end"] / result["entropy_start"]
  trained = entropy < 1.0 - 1e-3  # Else no step has trained the gates.
  supernet = compared["top1"][-1]
  z = result.get("random_z", 0.0)
  return {
    "seed": seed,
    "seconds": round(seconds, 1),
    **{k: v for k, v in result.items() if k.startswith("seconds_")},
    "entropy": entropy if trained else None,
    "supernet_top1": supernet,
    "top1": result["top1"],
    "supernet_ratio": supernet / result["top1"],
    "macs": result["macs"],
    "random_top1_mean": result["random_top1_mean"],
    "random_top1_std": result["random_top1_std"],
    "random_z": z,
    "compared": result["compared"],
    "compared_better": result["compared_better"],
    "met": {
      "seconds": seconds <= SECONDS,
      "supernet": supernet >= SUPERNET * result["top1"],
      "entropy": entropy <= ENTROPY if trained else None,
      "baseline": z >= Z,
    },
  }


def summary(entries: Sequence[dict]) -> dict:
  """How many seeds meet each bar, and means over the seeds."""
  met = {
    bar: None
    if entries[0]["met"][bar] is None
    else sum(bool(entry["met"][bar]) for entry in entries)
    for bar in ("seconds", "supernet", "entropy", "baseline")
  }
  means = {
    name: statistics.fmean(entry[name] for entry in entries)
    for name in ("seconds", "supernet_ratio", "top1", "random_z")
  }
  return {"of": len(entries), "met": met, "means": means}


def cache_of(workdir: pathlib.Path) -> pathlib.Path:
  """The folder of what a run compiles."""
  return workdir.with_name(f"{workdir.name}-compiled")


def read_json(path: pathlib.Path) -> dict:
  """The contents of a JSON file."""
  return json.loads(path.read_text(encoding="utf-8"))


def read_journal(path: pathlib.Path) -> list[dict]:
  """The lines of the journal; none where there is no file."""
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines()]


def parser() -> argparse.ArgumentParser:
  """The command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--out", type=pathlib.Path, required=True)
  add("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
  add("--config", default=CONFIG)
  add("--count", type=int, default=10, help="random networks of each seed")
  add("flags", nargs="*", help="flags of the job, after --")
  return parser


if __name__ == "__main__":
  main()
