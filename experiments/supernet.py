"""What the search pays beside training one network: time, memory, compiling.

    python -m experiments.supernet [--rounds 7] [--out FILE]
    python -m experiments.supernet --space stage --steps plain weight saving

The workload: 21 searched edges of the ImageNet space at 32x32 features, batch
32, float32. Compares, in one process and interleaved, a training step of the
plain network of one path, a weight step of the supernet, with maps computed
again and with maps saved, and architecture steps in both modes. Prints ratios,
XLA's own count of temporaries, and compile times with an empty compilation
cache and a filled one, in fresh processes, of this space and of that of the
embedded job (`--compile-only NAME`). With `--steps`, those alone are measured,
and no compile times.
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
  force_path,
  make_batch,
  plain_step,
  search_steps,
)

# Of which compiling is timed.
COMPILED = ("features", "digits")
# The steps in words.
NAMES = {
  "plain": "plain step",
  "weight": "weight step",
  "saving": "weight step that saves maps",
  "arch full": "arch step full",
  "arch two": "arch step two",
}
# Of which times are compared.
RATIOS = (
  ("weight", "plain"),
  ("saving", "plain"),
  ("saving", "weight"),
  ("arch full", "weight"),
  ("arch two", "weight"),
)


def compile_times(space, batch):
  """Seconds from tracing to a program, for both steps of a search."""
  search, jitted = search_steps(space)
  seconds = {}
  for name in ("weight", "arch full"):
    start = time.perf_counter()
    jitted[name].lower(search, batch).compile()
    seconds[name] = time.perf_counter() - start
  return seconds


def measure(space, steps, rounds):
  """Seconds of each step in each round, of the clock and of the processors.

  And megabytes of temporaries.
  """
  batch = make_batch(space, jax.random.key(2))
  search, jitted = search_steps(space)
  jitted["saving"] = search_steps(space, recompute=False)[1]["weight"]
  search = force_path(search, space)
  train, jitted["plain"] = plain_step(space)
  runs = {}
  for name in steps:
    own = train if name == "plain" else jax.tree.map(jnp.copy, search)
    runs[name] = (jitted[name].lower(own, batch).compile(), own)
  temporaries = {
    name: step.memory_analysis().temp_size_in_bytes / 1e6
    for name, (step, _) in runs.items()
  }
  times, busy = ({name: [] for name in runs} for _ in range(2))
  for i in range(rounds + 2):
    for name, (step, current) in runs.items():
      start, began = time.perf_counter(), time.process_time()
      current, metrics = step(current, batch)
      jax.block_until_ready((current, metrics))
      if i >= 2:
        times[name].append(time.perf_counter() - start)
        busy[name].append(time.process_time() - began)
      runs[name] = (step, current)
  return times, busy, temporaries


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


def compiled_in_fresh_processes():
  """Compile seconds of both steps, with and without a cache, of two spaces."""
  compiling = {}
  for name in COMPILED:
    with tempfile.TemporaryDirectory() as cache:
      for state_of_cache in ("empty cache", "filled cache"):
        seconds = in_fresh_process(name, cache)
        compiling[f"{name}, {state_of_cache}"] = seconds
  return compiling


def ratios(times, busy, temporaries):
  """Ratios between the steps that were measured, by what they compare."""
  found = {
    f"{what}: {NAMES[name]} / {NAMES[base]}": ratios_of(seconds, name, base)
    for what, seconds in (("time", times), ("processor time", busy))
    for name, base in RATIOS
    if {name, base} <= times.keys()
  }
  for name in ("weight", "saving"):
    if {name, "plain"} <= times.keys():
      ratio = temporaries[name] / temporaries["plain"]
      found[f"temporaries: {NAMES[name]} / plain step"] = ratio
  return found


def ratios_of(times, name, base):
  """Median over rounds of the ratio within a round."""
  return statistics.median(a / b for a, b in zip(times[name], times[base]))


def main():
  """Measures and prints."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--rounds", type=int, default=7)
  parser.add_argument("--out")
  parser.add_argument("--space", choices=SPACES, default="features")
  parser.add_argument("--steps", nargs="+", choices=NAMES)
  parser.add_argument("--compile-only", choices=COMPILED)
  args = parser.parse_args()
  if args.compile_only:
    space = SPACES[args.compile_only]()
    batch = make_batch(space, jax.random.key(2))
    print(json.dumps(compile_times(space, batch)))
    return
  compiling = {} if args.steps else compiled_in_fresh_processes()
  steps = args.steps or list(NAMES)
  space = SPACES[args.space]()
  times, busy, temporaries = measure(space, steps, args.rounds)
  result = {
    "space": args.space,
    "device": f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores",
    "versions": {"jax": jax.__version__, "python": platform.python_version()},
    "seconds": {name: float(np.median(t)) for name, t in times.items()},
    "temporaries_mb": temporaries,
    "ratios": ratios(times, busy, temporaries),
    "compile_seconds": compiling,
  }
  print(json.dumps(result, indent=1))
  if args.out:
    write_json(args.out, result)


if __name__ == "__main__":
  main()
