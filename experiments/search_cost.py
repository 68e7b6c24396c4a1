"""What does a search cost? Beside training what it finds, and a dense supernet.

    python -m experiments.search_cost --out DIR [--search FILE] [--rounds 9]

In the space of NAS-Bench-Macro, at the settings of a search that is kept in
FILE (the committed one of `experiments.nas_bench_macro`, by the additive model,
for 60 million MACs) and on batches of its size, float32:

    plain                  training step of the network that was found
    weight, 1 path         weight step of the supernet, on that network's path
    weight, several paths  as the search does it: three, each candidate once
    arch two, arch full    the published method's architecture steps, on the
                           network's path
    dense                  all candidates in memory (`experiments.dense`)
    score                  the losses of three paths, each candidate once

Steps are timed in turn in one process, and what counts are ratios within a
round. Their memory is what XLA sets aside, and, on a CPU, what a process of its
own takes from the system while it runs the step. From these follows the whole
search, beside training the network for as many images, for the 50 epochs of the
table of accuracies, and a dense search of as many steps.

DIR keeps each part: a run that was stopped goes on. `DIR/search_cost.json` has
everything, `DIR/search_cost.md` the tables.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import workloads
from experiments.dense import DenseModule, dense_state, dense_step
from experiments.gpu.steps import memory_of
from experiments.macro import benchmark
from experiments.macro.spending import tables_of, whole_search
from experiments.output import Parts
from proxyless_jax.hardware import cost_table
from proxyless_jax.hardware.runtime import cpu_name
from proxyless_jax.nas.additive import fit_additive, spread_paths
from proxyless_jax.nas.derive import Constraint, derive
from proxyless_jax.nas.evaluate import evaluate_path
from proxyless_jax.nn import build
from proxyless_jax.space import Chain
from proxyless_jax.training.metrics import Metrics

SEARCH = pathlib.Path(__file__).parent / "results" / "nas_bench_macro_cpu.json"
STEPS = (
  *("plain", "weight, 1 path", "weight, several paths"),
  *("arch two", "arch full", "dense", "score"),
)
TARGET = 60.0  # M MACs.
SCORED = 500  # Images of a path's loss.
# Steps before those that count, and those of which memory is taken.
WARM, RESIDENT = 2, 3


class Work(NamedTuple):
  """What is measured.

  Attributes:
    space: the space.
    path: candidates of the network that was found.
    batch: images of a step.
    paths: paths of a weight step.
    scored: images of a path's loss.
  """

  space: Chain
  path: list[int]
  batch: int
  paths: int
  scored: int


def step_of(name: str, work: Work):
  """A step by its name: (jitted step, state, batch)."""
  space, path = work.space, work.path
  key = jax.random.key(2)
  count = work.scored if name == "score" else work.batch
  batch = workloads.make_batch(space, key, count)
  if name == "plain":
    state, step = workloads.plain_step(space, path=path)
  elif name == "dense":
    state, step = _dense(space)
  elif name == "score":
    state, step = _score(space)
  else:
    several = name == "weight, several paths"
    state, steps = workloads.search_steps(
      space, paths=work.paths if several else 1
    )
    step = steps["weight" if name.startswith("weight") else name]
    if not several:
      state = workloads.force_path(state, space, path)
  return step, state, batch


def _dense(space: Chain):
  module = DenseModule(space)
  # That of the architecture as in DARTS.
  tx, arch_tx = workloads.optimizer(), optax.adam(3e-4, b1=0.5, b2=0.999)
  step = functools.partial(
    dense_step,
    module=module,
    tx=tx,
    arch_tx=arch_tx,
    label_smoothing=workloads.SMOOTHING,
  )
  state = dense_state(space, jax.random.key(1), tx, arch_tx)
  return state, jax.jit(step, donate_argnums=0)


def _score(space: Chain):
  """The losses of a path of each candidate, one after the other."""
  module = build(space)
  state, valid, _, _ = workloads.search_start(module)
  most = valid.sum(axis=1)
  paths = np.minimum(np.arange(valid.shape[1])[:, None], most - 1)

  def step(state, batch) -> tuple[object, Metrics]:
    variables = {"params": state.params, "batch_stats": state.batch_stats}

    def of_path(path):
      return evaluate_path(
        path,
        variables,
        batch,
        jax.random.key(0),
        module=module,
        valid=valid,
        label_smoothing=0.0,
        grad_accum=1,
      )

    return state, jax.lax.map(of_path, jnp.asarray(paths, jnp.int32))

  return state, jax.jit(step, donate_argnums=0)


def compiled(name: str, work: Work) -> tuple[Callable, object, dict, float]:
  """(program, state, batch, seconds of tracing and compiling)."""
  step, state, batch = step_of(name, work)
  start = time.perf_counter()
  program = step.lower(state, batch).compile()
  return program, state, batch, time.perf_counter() - start


def measure(work: Work, rounds: int) -> dict:
  """Each step: seconds by round, XLA's memory in MB, seconds of compiling."""
  runs, found = {}, {}
  for name in STEPS:
    program, state, batch, seconds = compiled(name, work)
    runs[name] = [program, state, batch]
    found[name] = {"compile_s": seconds, "memory": memory_of(program)}
    print(f"compiled {name} in {seconds:.1f} s", flush=True)
  times: dict[str, list[float]] = {name: [] for name in runs}
  for i in range(rounds + WARM):
    for name, run in runs.items():
      start = time.perf_counter()
      go(run)
      if i >= WARM:
        times[name].append(time.perf_counter() - start)
  for name, seconds in times.items():
    found[name]["seconds"] = seconds
  return found


def go(run: list) -> None:
  """One step of a [program, state, batch]; the state is moved on."""
  program, state, batch = run
  run[1], metrics = program(state, batch)
  jax.block_until_ready((run[1], metrics))


def resident(name: str, work: Work) -> dict[str, float]:
  """What this process takes from the system for a step, in MB.

  Returns:
    `before`: what it holds with program and state; `peak`: the most while it
    runs steps; `added`: their difference; `compile_s`, where little says that
    the program came from the cache, so that compiling left no memory behind.
  """
  *run, seconds = compiled(name, work)
  # What compiling freed goes back to the system, and the peak starts anew.
  with contextlib.suppress(OSError, AttributeError):
    ctypes.CDLL("libc.so.6").malloc_trim(0)
  before = _status("VmRSS")
  pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
  for _ in range(RESIDENT):
    go(run)
  peak = _status("VmHWM")
  memory = {"before": before, "peak": peak, "added": peak - before}
  return {**memory, "compile_s": seconds}


def _status(field: str) -> float:
  """A field of this process's status, in MB."""
  text = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
  (line,) = [one for one in text.splitlines() if one.startswith(f"{field}:")]
  return int(line.split()[1]) * 1024 / 1e6


def in_fresh_process(
  name: str, arguments: argparse.Namespace, cache: str
) -> dict[str, float]:
  """`resident` in a process of its own, which finds its program in `cache`."""
  environment = {
    **os.environ,
    "JAX_COMPILATION_CACHE_DIR": cache,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }
  command = [sys.executable, "-m", "experiments.search_cost"]
  for field in ("out", "search", "space", "batch", "scored"):
    value = getattr(arguments, field)
    command += [f"--{field}", str(value)] if value is not None else []
  done = subprocess.run(
    [*command, "--resident", name],
    env=environment,
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  found = json.loads(done.stdout.splitlines()[-1])
  print(f"memory of {name}: {found}", flush=True)
  return found


def seconds_of_derive(space: Chain, paths: int) -> float:
  """Seconds of fitting the additive model and deriving from it."""
  table = cost_table("macs", space)
  rng = np.random.default_rng(0)
  drawn = spread_paths(rng, table.valid, paths)
  middle = (table.min_cost + table.max_cost) / 2
  limit = [Constraint(table, -np.inf, middle)]
  times = []
  for _ in range(5):
    start = time.perf_counter()
    values = rng.standard_normal(paths)
    derive(fit_additive(drawn, values, table.valid), table.valid, limit)
    times.append(time.perf_counter() - start)
  return statistics.median(times)


def read_search(path: os.PathLike) -> dict:
  """Lengths of a search, and what it found for the target.

  Raises:
    ValueError: the file has no such search.
  """
  everything = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
  found = [
    search["found"]
    for search in everything["searches"]
    if (search["algorithm"], search["target"]) == ("additive", TARGET)
  ]
  if not found:
    raise ValueError(
      f"{path}: expected a search by 'additive' for {TARGET:g} M MACs: run "
      "experiments.nas_bench_macro with these"
    )
  supernet = everything["supernets"][0]
  settings = supernet["settings"]
  return {
    "steps": settings["warmup_steps"],
    "paths_a_step": settings["paths"],
    "candidates": benchmark.CANDIDATES,
    "batch": settings["batch"] * settings["paths"],
    "paths": supernet["paths"]["networks"],
    "images": supernet["images"][0],
    "arch": found[0]["arch"],
    "macs": found[0]["macs"],
    "mean_macs": mean_macs(),
    "accuracy": found[0]["accuracy"],
  }


def mean_macs() -> float:
  """MACs of a network of the space, on average."""
  table = cost_table("macs", benchmark.space())
  candidates = table.valid.sum(axis=1, keepdims=True)
  return table.fixed + float((table.costs / candidates).sum())


def work_of(arguments: argparse.Namespace, search: dict) -> Work:
  """What to measure; in a small space, its own path."""
  space = workloads.SPACES[arguments.space]()
  path = [int(digit) for digit in search["arch"]]
  if arguments.space != "macro":
    path = workloads.chosen(space)
  batch = arguments.batch or search["batch"]
  paths = search["paths_a_step"]
  return Work(space, path, batch, paths, arguments.scored)


def run(arguments: argparse.Namespace, cache: str) -> dict:
  """All of it: what the module's docstring says.

  Args:
    arguments: those of the command line.
    cache: folder of compiled programs, empty at first; this process fills it.
  """
  arguments.out.mkdir(parents=True, exist_ok=True)
  search = read_search(arguments.search)
  work = work_of(arguments, search)
  settings = {"space": arguments.space, "path": work.path}
  settings |= {"batch": work.batch, "paths_a_step": work.paths}
  settings |= {"scored": work.scored, "rounds": arguments.rounds}
  parts = Parts(arguments.out / "search_cost.json", settings)
  parts.get("environment", environment)
  parts.get("search", lambda: search)
  parts.get("steps", lambda: measure(work, arguments.rounds))
  if jax.default_backend() == "cpu":
    for name in STEPS:
      own = functools.partial(in_fresh_process, name, arguments, cache)
      parts.get(f"resident: {name}", own)
  parts.get(
    "derive_s", lambda: seconds_of_derive(benchmark.space(), search["paths"])
  )
  parts.get("whole", lambda: whole_search(parts.values))
  return parts.values


def environment() -> dict:
  """The device, versions, and what else the machine did."""
  return {
    "device": f"{jax.devices()[0].device_kind}; {cpu_name()}",
    "versions": {"jax": jax.__version__, "python": platform.python_version()},
    "load_average": os.getloadavg()[0],
  }


def parser() -> argparse.ArgumentParser:
  """The command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--out", type=pathlib.Path, required=True)
  add("--search", type=pathlib.Path, default=SEARCH)
  add("--rounds", type=int, default=9)
  add("--space", choices=workloads.SPACES, default="macro", help="for tests")
  add("--batch", type=int, help="images of a step; the search's if left out")
  add("--scored", type=int, default=SCORED, help="images of a path's loss")
  add("--resident", choices=STEPS, help="the memory of one step, no more")
  return parser


def main() -> None:
  """Measures, prints, writes."""
  arguments = parser().parse_args()
  if arguments.resident:
    work = work_of(arguments, read_search(arguments.search))
    print(json.dumps(resident(arguments.resident, work)))
    return
  with tempfile.TemporaryDirectory() as cache:
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    text = tables_of(run(arguments, cache))
  (arguments.out / "search_cost.md").write_text(text, encoding="utf-8")
  print(text)


if __name__ == "__main__":
  main()
