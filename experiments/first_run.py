"""Does a newcomer's first run find a better network than chance does?

    python -m experiments.first_run --out DIR [--seeds 0 1 2 3 4]

For each seed, in processes of their own: the README's job as a user starts it,
compiling everything; then the job 'random' in the same workdir, which trains
networks drawn near the same target by the same recipe, four of each seed; and
once more for networks drawn anywhere within the target. The random networks do
not depend on what a search finds, so those of all seeds are one sample, with
which each seed's network is compared. Five bars:

    seconds    the first job takes 300 seconds at most
    supernet   with the supernet's weights, batch norm with the statistics of
               the images, the derived network has at least 0.8 of the accuracy
               that it has after its own training
    entropy    the gates' entropy ends at half of its start or below; only for
               a method that trains them: null otherwise
    within     the found network is better than the mean of the random ones
               within the target by at least one standard deviation of theirs
    near       the same of those of 90 to 100 % of the target

The seconds are by the clock, on a machine where nothing else runs; beside them
is the time of all processors, which other work prolongs less. DIR keeps the
runs and a line for each seed, `first_run.jsonl`: what is there is not done
again, and a run that was stopped goes on. The seconds of a run that was stopped
are those of its stages, without its starts. `DIR/first_run.json` has
everything. `--config` and the flags after `--` make other jobs of it:

    python -m experiments.first_run --out DIR --config mnist:published
    python -m experiments.first_run --out DIR -- --config.search.paths=6
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import jax

from experiments.output import write_json
from proxyless_jax.run.random_networks import FILE

CONFIG = "configs/mnist.py"
SECONDS, SUPERNET, ENTROPY, Z = 300.0, 0.8, 0.5, 1.0
BASELINES = ("within", "near")


def main(argv: Sequence[str] | None = None) -> dict:
  """Runs what is not done, and prints and writes everything."""
  arguments = parser().parse_args(argv)
  if len(arguments.seeds) * arguments.count < 2:
    raise ValueError("--count 1: expected 2 random networks or more in all")
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
    **summary(sorted(done, key=lambda entry: entry["seed"])),
  }
  write_json(str(arguments.out / "first_run.json"), found)
  print(json.dumps(found, indent=1))
  return found


def measure(arguments: argparse.Namespace, seed: int) -> dict:
  """What the run of a seed found, and whether it meets the bars."""
  workdir = arguments.out / f"seed-{seed}"
  fresh = not workdir.exists()
  flags = [f"--config.seed={seed}", *arguments.flags]
  started, before = time.perf_counter(), processor_seconds()
  run(arguments.config, workdir, flags)
  seconds = time.perf_counter() - started
  busy = processor_seconds() - before
  result = read_json(workdir / "result.json")
  if not fresh:
    seconds, busy = sum(stage_seconds(result).values()), None
  flags += [f"--config.random.count={arguments.count}", "--config.job=random"]
  run(arguments.config, workdir, flags)
  within = workdir.with_name(f"{workdir.name}-within")
  run(arguments.config, within, [*flags, "--config.random.near=0.0"])
  result = read_json(workdir / "result.json")
  for folder in (workdir, within):
    shutil.rmtree(cache_of(folder), ignore_errors=True)
  compared = read_json(workdir / "compared.json")
  random = {
    "near": read_json(workdir / FILE),
    "within": read_json(within / FILE),
  }
  return entry(seed, (seconds, busy), result, compared, random)


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


def entry(
  seed: int,
  seconds: tuple[float, float | None],
  result: dict,
  compared: dict,
  random: Mapping[str, Sequence[dict]],
) -> dict:
  """What is kept of a seed.

  Args:
    seed: seed of the run.
    seconds: duration of its search and training by the clock, and the time of
      processors that they took, where it is known.
    result: contents of `result.json`, after the job 'random'.
    compared: contents of `compared.json`, of which the last is the found one.
    random: by baseline, contents of `random.json`, the random networks.
  """
  entropy = result["entropy_end"] / result["entropy_start"]
  supernet = compared["top1"][-1]
  return {
    "seed": seed,
    "seconds": round(seconds[0], 1),
    "processor_seconds": seconds[1] and round(seconds[1], 1),
    **stage_seconds(result),
    # Null where no step has trained the gates.
    "entropy": entropy if entropy < 1.0 - 1e-3 else None,
    "supernet_top1": supernet,
    "top1": result["top1"],
    "supernet_ratio": supernet / result["top1"],
    "macs": result["macs"],
    "parameters": result["parameters"],
    "compared": result["compared"],
    "compared_better": result["compared_better"],
    "random_top1": {
      name: [network["top1"] for network in networks]
      for name, networks in random.items()
    },
  }


def stage_seconds(result: dict) -> dict[str, float]:
  """The duration of each stage, from the contents of `result.json`."""
  return {k: v for k, v in result.items() if k.startswith("seconds_")}


def processor_seconds() -> float:
  """Time that processors spent on the runs so far, all cores together."""
  used = resource.getrusage(resource.RUSAGE_CHILDREN)
  return used.ru_utime + used.ru_stime


def summary(entries: Sequence[dict]) -> dict:
  """The random networks, each seed against them, and how many meet each bar."""
  random = {name: baseline(entries, name) for name in BASELINES}
  seeds = [judged(entry, random) for entry in entries]
  met = {
    bar: None
    if seeds[0]["met"][bar] is None
    else sum(seed["met"][bar] for seed in seeds)
    for bar in seeds[0]["met"]
  }
  means = {
    name: statistics.fmean(seed[name] for seed in seeds)
    for name in ("seconds", "supernet_ratio", "top1")
  }
  return {
    "of": len(seeds),
    "met": met,
    "means": means,
    "random": random,
    "seeds": seeds,
  }


def baseline(entries: Sequence[dict], name: str) -> dict:
  """The random networks of all seeds: number, mean accuracy, and spread."""
  top1 = [top1 for entry in entries for top1 in entry["random_top1"][name]]
  return {
    "count": len(top1),
    "top1_mean": statistics.fmean(top1),
    "top1_std": statistics.stdev(top1),
  }


def judged(entry: dict, random: Mapping[str, dict]) -> dict:
  """A seed with its z-scores, and whether it meets the bars.

  Args:
    entry: what is kept of the seed.
    random: the baselines.
  """
  z = {}
  for name, of in random.items():
    above = entry["top1"] - of["top1_mean"]
    z[name] = above / of["top1_std"] if of["top1_std"] else 0.0
  entropy = entry["entropy"]
  met = {
    "seconds": entry["seconds"] <= SECONDS,
    "supernet": entry["supernet_ratio"] >= SUPERNET,
    "entropy": None if entropy is None else entropy <= ENTROPY,
    **{name: value >= Z for name, value in z.items()},
  }
  return {**entry, "z": z, "met": met}


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
  add("--count", type=int, default=4, help="random networks of each seed")
  add("flags", nargs="*", help="flags of the job, after --")
  return parser


if __name__ == "__main__":
  main()
