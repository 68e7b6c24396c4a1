"""What a search of the CIFAR-10 space pays: compiling, memory, time.

    python -m experiments.trees [--blocks 54] [--rounds 7] [--no_shuffle]
                                [--out FILE]

Both sides in one process, batch 8, float32, steps interleaved: the supernet's
weight and architecture steps, and a training step of the plain network of one
path, that of the published network. Prints seconds of tracing, lowering and
compiling, XLA's own count of temporaries, and ratios. The small member of the
family is that of `configs/mnist.py:tree`; it comes first. `--blocks` gives the
other member's depth: as wide for its depth as the published space;
`--no_shuffle` leaves out its channel shuffles.
"""

import argparse
import functools
import json
import os
import platform
import statistics
import time

import jax
import jax.numpy as jnp

from experiments import workloads
from experiments.output import write_json
from experiments.supernet import ratios_of
from proxyless_jax.configs import mnist
from proxyless_jax.nn import build, init
from proxyless_jax.run.config.options import parse
from proxyless_jax.space import tree_space
from proxyless_jax.space.zoo import zoo
from proxyless_jax.training.state import train_state
from proxyless_jax.training.steps import train_step

BATCH = 8
STEPS = ("weight", "arch full")
# Of the published space, for each block.
WIDER, STAGES = 84 / 54, 3


def member(blocks, shuffle=True):
  """A space of that many blocks: the published one where they are 54."""
  depths = [blocks // STAGES + (i < blocks % STAGES) for i in range(STAGES)]
  depths = [depth for depth in depths if depth]
  alpha = round(WIDER * blocks)
  return tree_space(depths=depths, alpha=alpha, shuffle=shuffle)


def digits():
  """The space of `configs/mnist.py:tree`."""
  return parse(mnist.get_config("tree")).make_space(classes=10)


def published_path(space):
  """The choices of the published network's first edges."""
  edges = zoo("proxyless_cifar").edges[: len(space.edges)]
  return [edge.op.name for edge in edges]


def make_batch(space, key):
  """Random images and labels."""
  shape = (BATCH, *space.image_shape)
  label = jnp.arange(BATCH, dtype=jnp.int32) % 10
  image = jax.random.normal(key, shape)
  return {"image": image, "label": label, "mask": jnp.ones(BATCH)}


def plain_step(network):
  """The state and the jitted training step of an architecture."""
  module, tx = build(network), workloads.optimizer()
  variables = init(module, jax.random.key(1))
  train = train_state(jax.random.key(0), variables, tx)
  step = functools.partial(
    train_step,
    module=module,
    tx=tx,
    label_smoothing=0.1,
    ema_decay=0.0,
    drop_rate=None,
    grad_accum=1,
  )
  return train, jax.jit(step, donate_argnums=0)


def compiled(step, *args):
  """The program, and seconds of each phase, of a clock and of processors."""
  seconds = {}

  def timed(phase, function):
    start, work = time.perf_counter(), time.process_time()
    result = function()
    seconds[phase] = time.perf_counter() - start
    seconds[f"{phase}, processors"] = time.process_time() - work
    return result

  traced = timed("trace", lambda: step.trace(*args))
  lowered = timed("lower", traced.lower)
  return timed("compile", lowered.compile), seconds


def measure(space, rounds):
  """Seconds and megabytes of each step of a space, and their ratios."""
  path, batch = published_path(space), make_batch(space, jax.random.key(2))
  start = time.perf_counter()
  search, jitted = workloads.search_steps(space)
  phases = {"init": time.perf_counter() - start}
  choice = [edge.index(name) for edge, name in zip(space.edges, path)]
  one_hot = jax.nn.one_hot(jnp.array(choice), search.arch.shape[1])
  search = search.replace(arch=50.0 * one_hot)
  steps_of = {name: (jitted[name], search) for name in STEPS}
  train, plain = plain_step(space.choose(path))
  steps_of["plain"] = (plain, train)
  runs = {}
  for name, (step, current) in steps_of.items():
    program, phases[name] = compiled(step, current, batch)
    runs[name] = [program, jax.tree.map(jnp.copy, current)]
    print(name, {k: round(s, 1) for k, s in phases[name].items()}, flush=True)
  temporaries = {
    name: program.memory_analysis().temp_size_in_bytes / 1e6
    for name, (program, _) in runs.items()
  }
  times = run_rounds(runs, batch, rounds)
  return {
    "edges": len(space.edges),
    "log10 of architectures": round(space.log10_size, 1),
    "load": os.getloadavg(),
    "seconds to a program": phases,
    "seconds": {name: statistics.median(t) for name, t in times.items()},
    "temporaries_mb": temporaries,
    "ratios": {
      "time: weight step / plain step": ratios_of(times, "weight", "plain"),
      "time: arch step full / weight step": ratios_of(
        times, "arch full", "weight"
      ),
      "temporaries: weight step / plain step": temporaries["weight"]
      / temporaries["plain"],
    },
  }


def run_rounds(runs, batch, rounds):
  """Seconds of each step in each round, after two that do not count."""
  times = {name: [] for name in runs}
  for i in range(rounds + 2):
    for name, run in runs.items():
      start = time.perf_counter()
      run[1], metrics = run[0](run[1], batch)
      jax.block_until_ready((run[1], metrics))
      if i >= 2:
        times[name].append(time.perf_counter() - start)
  return times


def main():
  """Measures and prints."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--blocks", type=int, default=54)
  parser.add_argument("--rounds", type=int, default=7)
  parser.add_argument("--no_shuffle", action="store_true")
  parser.add_argument("--out")
  args = parser.parse_args()
  other = member(args.blocks, shuffle=not args.no_shuffle)
  spaces = {"digits": digits(), f"{args.blocks} blocks": other}
  result = {
    "device": f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores",
    "versions": {"jax": jax.__version__, "python": platform.python_version()},
  }
  for name, space in spaces.items():
    result[name] = measure(space, args.rounds)
    print(json.dumps({name: result[name]}, indent=1), flush=True)
  if args.out:
    write_json(args.out, result)


if __name__ == "__main__":
  main()
