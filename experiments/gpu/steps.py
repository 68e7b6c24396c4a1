"""Part (b): a search's steps beside the plain network's, and PyTorch's.

The weight step, both architecture steps and the plain step of the same path,
in bfloat16, interleaved: images a second, memory, compile seconds; and what the
device spends a step on, by its own trace.
"""

from __future__ import annotations

import collections
import glob
import os
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from experiments import workloads
from experiments.gpu.journal import Journal, compile_all, text_of

# Steps queued before each wait, and rounds.
QUEUED, ROUNDS = 4, 5
# What is measured together, one group after the other.
GROUPS = (("weight", "plain"), ("arch two", "arch full"))
# Batches of each space; the small form has batches of 2.
BATCHES = {"imagenet1": (128,), "imagenet": (128,), "macro": (256,)}


def settings(name: str, small: bool):
  """(key, space, batch) of what a unit measures."""
  if small:
    return [(f"{name} small", workloads.tiny(), 2)]
  space = workloads.SPACES[name]()
  return [(f"{name} batch {batch}", space, batch) for batch in BATCHES[name]]


def run(journal: Journal, small: bool, name: str) -> None:
  """Measures one of the spaces."""
  dtype = jnp.float32 if small else jnp.bfloat16
  for key, space, batch in settings(name, small):
    if f"{key}: times" in journal:
      continue
    runs, states = {}, prepare(space, batch, dtype)
    for group in GROUPS:
      runs |= compile_group(journal, key, {n: states[n] for n in group})
      if journal.left <= 0:
        journal.log("the budget ended")
        return
      times = interleaved(runs, 1 if small else ROUNDS)
      seconds = {n: statistics.median(t) / QUEUED for n, t in times.items()}
      # The first group's figures are there if the second takes too long.
      end = ": times" if group is GROUPS[-1] else ": times of the first"
      journal.add(key + end, _summary(seconds, batch))
    for step in GROUPS[0]:
      if step in runs and journal.left > 5.0:
        journal.add(f"{key}: trace of {step}", traced(runs[step]))


def prepare(space, batch: int, dtype) -> dict:
  """The jitted steps with what they take: name -> (step, state, batch)."""
  data = workloads.make_batch(space, jax.random.key(2), batch)
  search, jitted = workloads.search_steps(space, dtype)
  search = workloads.force_path(search, space)
  train, plain = workloads.plain_step(space, dtype)
  steps = {name: (step, search, data) for name, step in jitted.items()}
  return {**steps, "plain": (plain, train, data)}


def compile_group(journal: Journal, key: str, group: dict) -> dict:
  """Programs with their own states: name -> [program, state, batch].

  Journals each one's compiling and memory.
  """
  start = time.perf_counter()
  lowered = {n: step.lower(*args) for n, (step, *args) in group.items()}
  journal.log(f"{key}: traced in {time.perf_counter() - start:.1f} s")
  runs = {}
  # One after the other where the compiler times kernels to choose from them: on
  # an H200 two such programs at once were not done in a minute.
  untimed = "autotune_level=0" in os.environ.get("XLA_FLAGS", "")
  threads = len(lowered) if untimed else 1
  for name, (program, spent) in compile_all(lowered, journal, threads).items():
    row = {"compile_s": spent}
    if isinstance(program, str):
      row["failed"] = program
    else:
      row |= memory_of(program)
      _, state, data = group[name]
      # Each its own, since a step takes its state's memory.
      runs[name] = [program, jax.tree.map(jnp.copy, state), data]
    journal.add(f"{key}: program of {name}", row)
  return runs


def memory_of(program) -> dict:
  """XLA's own count, in MB."""
  found = program.memory_analysis()
  names = ("temp", "argument", "output", "alias", "generated_code")
  sizes = {n: getattr(found, f"{n}_size_in_bytes", 0) / 1e6 for n in names}
  peak = sizes["temp"] + sizes["argument"] + sizes["output"] - sizes["alias"]
  return {**{f"{n}_mb": size for n, size in sizes.items()}, "peak_mb": peak}


def go(run: list):
  """One step of a run of `prepare`."""
  program, state, data = run
  run[1], metrics = program(state, data)
  return metrics


def interleaved(runs: dict, rounds: int) -> dict:
  """Seconds of `QUEUED` steps of each in each round; the first warms up."""
  times = collections.defaultdict(list)
  for i in range(rounds + 1):
    for name, run in runs.items():
      start = time.perf_counter()
      for _ in range(QUEUED):
        metrics = go(run)
      jax.block_until_ready((run[1], metrics))
      if i:
        times[name].append(time.perf_counter() - start)
  return times


def _summary(seconds: dict, batch: int) -> dict:
  row = {f"{n}_ms": 1e3 * s for n, s in seconds.items()}
  row |= {f"{n}_images_per_s": batch / s for n, s in seconds.items()}
  for name in ("plain", "arch two", "arch full"):
    if {name, "weight"} <= set(seconds):
      row[f"weight / {name}"] = seconds["weight"] / seconds[name]
  stats = jax.devices()[0].memory_stats() or {}
  # Of the whole process: states of all programs, and the largest of them.
  row["process_peak_mb"] = stats.get("peak_bytes_in_use", 0) / 1e6
  return row


def traced(run: list) -> dict:
  """Copies to the host, and the longest kernels, in a step of the device."""
  try:
    with tempfile.TemporaryDirectory() as folder:
      with jax.profiler.trace(folder):
        jax.block_until_ready(go(run))
      (path,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
      return summarise(jax.profiler.ProfileData.from_file(path))
  except Exception as error:  # A trace is a bonus.
    return {"failed": text_of(error)}


def summarise(profile) -> dict:
  """Microseconds by kernel of all GPUs, and their copies to the host."""
  count, spent = collections.Counter(), collections.Counter()
  for plane in profile.planes:
    if "GPU" not in plane.name:
      continue
    for line in plane.lines:
      if "Stream" not in line.name:
        continue
      for event in line.events:
        count[event.name] += 1
        spent[event.name] += event.duration_ns / 1e3
  to_host = [n for n in count if "dtoh" in n.lower() or "d2h" in n.lower()]
  return {
    "kernels": sum(count.values()),
    "busy_us": sum(spent.values()),
    "copies_to_host": sum(count[name] for name in to_host),
    "longest": [
      [name[:120], count[name], round(us)] for name, us in spent.most_common(40)
    ],
  }


def run_torch(journal: Journal, small: bool) -> None:
  """PyTorch's twin: bfloat16 by autocast, channels_last."""
  for name in ("macro", "imagenet1", "imagenet"):
    for key, space, batch in settings(name, small):
      if key not in journal and journal.left > 0:
        try:
          journal.add(key, torch_row(space, batch, small))
        except Exception as error:  # The others continue.
          journal.add(key, {"failed": text_of(error)})
    if small:
      return


def torch_row(space, batch: int, small: bool) -> dict:
  """Times and peaks of the twin's steps."""
  import torch

  from experiments.torch_twin import Twin

  cuda = torch.cuda.is_available()
  torch.backends.cudnn.benchmark = True
  options = dict(channels_last=True, amp=cuda)
  device = "cuda" if cuda else "cpu"
  path, row = workloads.chosen(space), {}
  network = space.choose(path)
  plain = Twin(network, device, **options)
  twin = Twin(space, device, **options)
  size, channels = space.image_size, space.channels
  rng = np.random.default_rng(0)
  images = rng.standard_normal((batch, size, size, channels), np.float32)
  data = twin.inputs(images, np.arange(batch) % 10)
  involved = [list(range(len(edge.ops))) for edge in space.edges]
  pairs = [
    [drawn, (drawn + 1) % len(own)] for drawn, own in zip(path, involved)
  ]
  steps = {
    "weight": lambda: twin.weight_step(*data, path),
    "plain": lambda: plain.weight_step(*data, [0] * len(path)),
    "arch two": lambda: twin.arch_step(*data, path, pairs),
    "arch full": lambda: twin.arch_step(*data, path, involved),
  }
  for name, step in steps.items():
    spent, peak = _time_torch(torch, step, cuda, 1 if small else ROUNDS)
    row |= {f"{name}_ms": 1e3 * spent, f"{name}_images_per_s": batch / spent}
    row[f"{name}_peak_mb"] = peak
  return row


def _time_torch(torch, step, cuda: bool, rounds: int):
  """Median seconds of a step, and the peak of its memory in MB."""
  wait = torch.cuda.synchronize if cuda else lambda: None
  times, peak = [], 0.0
  if cuda:
    torch.cuda.reset_peak_memory_stats()
  for i in range(rounds + 1):
    start = time.perf_counter()
    for _ in range(QUEUED):
      step()
    wait()
    if i:
      times.append((time.perf_counter() - start) / QUEUED)
  if cuda:
    peak = torch.cuda.max_memory_allocated() / 1e6
  return statistics.median(times), peak
