"""What the search pays beside training one network: time, memory, compiling.

    python -m experiments.supernet [--rounds 7] [--out FILE]

The workload: 21 searched edges of the ImageNet space at 32x32 features, batch
32, float32. Compares, in one process and interleaved, a training step of the
plain network of one path, a weight step of the supernet, and architecture steps
in both modes. Prints ratios, XLA's own count of temporaries, and compile times
with an empty compilation cache and a filled one, in fresh processes, of this
space and of that of the embedded job (`--compile-only NAME`).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from experiments.output import write_json
from experiments.workloads import (
  SPACES,
  features,
  force_path,
  make_batch,
  plain_step,
  search_steps,
)

# Of which compiling is timed.
COMPILED = ("features", "digits")


def compile_times(space, batch):
  """Seconds from tracing to a program, for both steps of a search."""
  search, jitted = search_steps(space)
  seconds = {}
  for name in ("weight", "arch full"):
    start = time.perf_counter()
    jitted[name].lower(search, batch).compile()
    seconds[name] = time.perf_counter() - start
  return seconds


def measure(rounds):
  """Seconds of each step in each round, and megabytes of temporaries."""
  space = features()
  batch = make_batch(space, jax.random.key(2))
  search, jitted = search_steps(space)
  search = force_path(search, space)
  train, plain = plain_step(space)
  runs = {"plain": (plain.lower(train, batch).compile(), train)}
  for name, step in jitted.items():
    own = jax.tree.map(jnp.copy, search)
    runs[name] = (step.lower(own, batch).compile(), own)
  temporaries = {
    name: step.memory_analysis().temp_size_in_bytes / 1e6
    for name, (step, _) in runs.items()
  }
  times = {name: [] for name in runs}
  for i in range(rounds + 2):
    for name, (step, current) in runs.items():
      start = time.perf_counter()
      current, metrics = step(current, batch)
      jax.block_until_ready((current, metrics))
      if i >= 2:
        times[name].append(time.perf_counter() - start)
      runs[name] = (step, current)
  return times, temporaries


def in_fresh_process(name, cache):
  """Compile seconds of both steps, by a new interpreter with this cache."""
  environment = {
    **os.environ,
    "JAX_COMPILATION_CACHE_DIR": cache,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }
  command = [sys.executable, "-m", "experiments.supernet"]
  command += ["--compile-only", name]
  done = subprocess.run(
    command, env=environment, capture_output=True, text=True, check=True
  )
  return json.loads(done.stdout.splitlines()[-1])


def ratios_of(times, name, base):
  """Median over rounds of the ratio within a round."""
  return statistics.median(a / b for a, b in zip(times[name], times[base]))


def main():
  """Measures and prints."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--rounds", type=int, default=7)
  parser.add_argument("--out")
  parser.add_argument("--compile-only", choices=COMPILED)
  args = parser.parse_args()
  if args.compile_only:
    space = SPACES[args.compile_only]()
    batch = make_batch(space, jax.random.key(2))
    print(json.dumps(compile_times(space, batch)))
    return
  compiling = {}
  for name in COMPILED:
    with tempfile.TemporaryDirectory() as cache:
      for state_of_cache in ("empty cache", "filled cache"):
        seconds = in_fresh_process(name, cache)
        compiling[f"{name}, {state_of_cache}"] = seconds
  times, temporaries = measure(args.rounds)
  result = {
    "device": f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores",
    "versions": {"jax": jax.__version__, "python": platform.python_version()},
    "seconds": {name: float(np.median(t)) for name, t in times.items()},
    "temporaries_mb": temporaries,
    "ratios": {
      "time: weight step / plain step": ratios_of(times, "weight", "plain"),
      "time: arch step full / weight step": ratios_of(
        times, "arch full", "weight"
      ),
      "time: arch step two / weight step": ratios_of(
        times, "arch two", "weight"
      ),
      "temporaries: weight step / plain step": temporaries["weight"]
      / temporaries["plain"],
    },
    "compile_seconds": compiling,
  }
  print(json.dumps(result, indent=1))
  if args.out:
    write_json(args.out, result)


if __name__ == "__main__":
  main()
