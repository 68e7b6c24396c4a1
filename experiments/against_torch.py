"""Our search's steps beside a PyTorch twin's: time and peak memory, on a CPU.

    python -m experiments.against_torch [--rounds 7] [--out FILE]

Needs PyTorch. For each workload (`experiments.workloads`) the weight step, both
architecture steps and the plain network's step, of ours and of the twin
(`experiments.torch_twin`) in both layouts: channels_last, which is faster, and
NCHW, which the released search has. The same path, optimiser and batch; all
steps in turn in one process. Ratios are medians over rounds of the ratio within
a round. Memory is what a step adds to the process at its peak, where Linux
tells.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import functools
import gc
import json
import os
import pathlib
import platform
import re
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch

from experiments import workloads
from experiments.torch_twin import Twin
from proxyless_jax.hardware.runtime import cpu_name

BATCHES = {"features": 32, "digits": 64, "macro": 64, "tiny": 2}
STEPS = ("weight", "arch full", "arch two", "plain")
LAYOUTS = {"channels_last": True, "nchw": False}
WARM_UP = 2
PROCESS = pathlib.Path("/proc/self")

Step = Callable[[], object]


def our_steps(space, batch: int) -> dict[str, Step]:
  """One step more of each, waited for."""
  data = workloads.make_batch(space, jax.random.key(2), batch)
  search, jitted = workloads.search_steps(space)
  search = workloads.force_path(search, space)
  train, jitted["plain"] = workloads.plain_step(space)
  steps = {}
  for name in STEPS:
    own = train if name == "plain" else jax.tree.map(jnp.copy, search)
    program = jitted[name].lower(own, data).compile()
    steps[name] = functools.partial(_go, program, {"state": own}, data)
  return steps


def _go(program, held: dict, data) -> None:
  held["state"], metrics = program(held["state"], data)
  jax.block_until_ready((held["state"], metrics))


def twin_steps(space, batch: int, channels_last: bool) -> dict[str, Step]:
  """The same steps of the twin."""
  path = workloads.chosen(space)
  twin = Twin(space, channels_last=channels_last)
  plain = Twin(space.choose(path), channels_last=channels_last)
  data = workloads.make_batch(space, jax.random.key(2), batch)
  data = twin.inputs(data["image"], data["label"])
  everyone = [list(range(len(edge.ops))) for edge in space.edges]
  rng = np.random.default_rng(0)

  def pairs():
    others = [rng.choice(np.delete(k, i)) for i, k in zip(path, everyone)]
    return [[i, int(j)] for i, j in zip(path, others)]

  return {
    "weight": lambda: twin.weight_step(*data, path),
    "arch full": lambda: twin.arch_step(*data, path, everyone),
    "arch two": lambda: twin.arch_step(*data, path, pairs()),
    "plain": lambda: plain.weight_step(*data, [0] * len(path)),
  }


def interleaved(steps: dict[str, Step], rounds: int) -> dict[str, list[float]]:
  """Seconds of each step in each round, after warming up."""
  times = collections.defaultdict(list)
  for i in range(WARM_UP + rounds):
    for name, step in steps.items():
      start = time.perf_counter()
      step()
      if i >= WARM_UP:
        times[name].append(time.perf_counter() - start)
  return dict(times)


def peak_mb(step: Step) -> float | None:
  """What a step adds to the process's memory; None where nobody tells."""
  gc.collect()
  try:
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    (PROCESS / "clear_refs").write_text("5")  # The peak begins anew.
    before = _status_mb("VmRSS")
    step()
    return _status_mb("VmHWM") - before
  except OSError:  # Not Linux, or forbidden.
    return None


def _status_mb(field: str) -> float:
  text = (PROCESS / "status").read_text()
  return int(re.search(rf"{field}:\s+(\d+) kB", text)[1]) * 1024 / 1e6


def measure(name: str, rounds: int) -> dict:
  """Times, ratios and peaks of a workload."""
  space, batch = workloads.SPACES[name](), BATCHES[name]
  sides = {"ours": our_steps(space, batch)}
  for layout, channels_last in LAYOUTS.items():
    sides[layout] = twin_steps(space, batch, channels_last)
  steps = {
    f"{side} {step}": own[step] for step in STEPS for side, own in sides.items()
  }
  times = interleaved(steps, rounds)

  def ratio(one: str, other: str) -> float:
    return statistics.median(a / b for a, b in zip(times[one], times[other]))

  ratios = {
    f"{step}: ours / {layout}": ratio(f"ours {step}", f"{layout} {step}")
    for step in STEPS
    for layout in LAYOUTS
  }
  pairs = (("weight", "plain"), ("arch full", "weight"), ("arch two", "weight"))
  for one, other in pairs:
    for side in sides:
      found = ratio(f"{side} {one}", f"{side} {other}")
      ratios[f"{side}: {one} / {other}"] = found
  return {
    "batch": batch,
    "ms": {n: 1e3 * statistics.median(t) for n, t in times.items()},
    "ratios": ratios,
    "peak_mb": {n: peak_mb(step) for n, step in steps.items()},
  }


def table(results: dict) -> str:
  """Lines of text: a workload and a step each."""
  lines = [
    f"{'workload, step':<20} {'ours':>9} {'ch. last':>9} {'NCHW':>9}"
    f" {'ratio':>6} {'ratio':>6}   peak MB: ours, ch. last, NCHW"
  ]
  sides = ("ours", *LAYOUTS)
  for name, result in results.items():
    for step in STEPS:
      spent = (result["ms"][f"{side} {step}"] for side in sides)
      found = (result["ratios"][f"{step}: ours / {one}"] for one in LAYOUTS)
      peaks = (result["peak_mb"][f"{side} {step}"] for side in sides)
      lines.append(
        f"{name + ', ' + step:<20}"
        + "".join(f" {ms:>6.0f} ms" for ms in spent)
        + "".join(f" {ratio:>6.2f}" for ratio in found)
        + "  "
        + "".join(f" {'-' if mb is None else round(mb):>7}" for mb in peaks)
      )
  return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
  """Measures, prints a table and writes the JSON."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--rounds", type=int, default=7)
  parser.add_argument("--workloads", default="features,digits,macro")
  parser.add_argument("--out", type=pathlib.Path)
  args = parser.parse_args(argv)
  names = args.workloads.split(",")
  if unknown := sorted(set(names) - set(BATCHES)):
    parser.error(f"--workloads {unknown}: expected some of {sorted(BATCHES)}")
  if args.rounds < 1:
    parser.error(f"--rounds {args.rounds}: expected 1 or more")
  results = {}
  for name in names:
    results[name] = measure(name, args.rounds)
    print(table({name: results[name]}), flush=True)
  whole = {
    "device": cpu_name(),
    "versions": {
      "jax": jax.__version__,
      "torch": torch.__version__,
      "python": platform.python_version(),
    },
    "load_average": os.getloadavg()[0],
    "rounds": args.rounds,
    "workloads": results,
  }
  if args.out:
    args.out.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
  main()
