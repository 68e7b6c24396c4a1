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
import functools
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

from configs import mnist
from proxyless_jax.hardware import cost_table
from proxyless_jax.nn import build, init
from proxyless_jax.run.options import parse
from proxyless_jax.search import gates as gates_lib
from proxyless_jax.search import objective, optim, state, steps
from proxyless_jax.space import mobile_space

BATCH = 32
# Every kernel and expansion, in every stage; no skipped block, so that the
# plain network is as large as a drawn one can be.
PATH = [f"mbconv{e}_k{k}" for e, k in ((6, 3), (3, 7), (6, 5), (3, 3), (6, 7))]


def workload():
  """The network of the module's docstring."""
  return mobile_space(
    image_size=32, classes=10, stem_stride=1, strides=(1, 2, 2, 1, 2, 1)
  )


def optimizer():
  """SGD as released; both sides use it."""
  return optim.weight_optimizer(
    0.01, momentum=0.9, nesterov=True, decay=4e-5, kernels_only=False
  )


def digits():
  """The space of `configs/mnist.py`."""
  options = parse(mnist.get_config())
  return options.make_space(classes=10)


SPACES = {"workload": workload, "digits": digits}


def make_batch(space, key):
  """Random images and labels."""
  shape = (BATCH, *space.image_shape)
  image = jax.random.normal(key, shape)
  label = jnp.arange(BATCH, dtype=jnp.int32) % 10
  return {"image": image, "label": label, "mask": jnp.ones(BATCH)}


def search_steps(space):
  """The state, and the jitted weight and architecture steps of a search."""
  module, mask = build(space), gates_lib.candidate_mask(space)
  tx = optimizer()
  arch_tx = optim.arch_optimizer(1e-3, b1=0.0, b2=0.999, decay=0.0)
  search = state.search_state(
    jax.random.key(0),
    init(module, jax.random.key(1)),
    mask,
    tx,
    arch_tx,
    1e-3,
    costs=1,
  )
  weight = functools.partial(
    steps.weight_step,
    module=module,
    mask=mask,
    tx=tx,
    smoothing=0.1,
    accumulate=1,
  )
  table = cost_table("macs", space)
  target = objective.AtMost(table.cheapest * 2, 0.01)
  arch = functools.partial(
    steps.arch_step,
    module=module,
    mask=mask,
    tx=arch_tx,
    costs=(objective.Cost("macs", table, target),),
    smoothing=0.1,
    accumulate=1,
  )
  jitted = {"weight": jax.jit(weight, donate_argnums=0)}
  for mode in gates_lib.MODES:
    step = functools.partial(arch, mode=mode)
    jitted[f"arch {mode}"] = jax.jit(step, donate_argnums=0)
  return search, jitted


def plain_step(space):
  """The state and the jitted training step of the network of `PATH`."""
  names = [PATH[i % len(PATH)] for i in range(len(space.edges))]
  module, tx = build(space.choose(names)), optimizer()
  variables = init(module, jax.random.key(1))
  train = state.train_state(jax.random.key(0), variables, tx)
  step = functools.partial(
    steps.train_step,
    module=module,
    tx=tx,
    smoothing=0.1,
    average_decay=0.0,
    drop_rate=None,
    accumulate=1,
  )
  return train, jax.jit(step, donate_argnums=0)


def force_path(search, space):
  """The state with all probability on `PATH`: what the plain network runs."""
  choice = [
    edge.index(PATH[i % len(PATH)]) for i, edge in enumerate(space.edges)
  ]
  return search.replace(
    arch=50.0 * jax.nn.one_hot(jnp.array(choice), search.arch.shape[1])
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


def measure(rounds):
  """Seconds of each step in each round, and megabytes of temporaries."""
  space = workload()
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
  parser.add_argument("--compile-only", choices=SPACES)
  args = parser.parse_args()
  if args.compile_only:
    space = SPACES[args.compile_only]()
    batch = make_batch(space, jax.random.key(2))
    print(json.dumps(compile_times(space, batch)))
    return
  compiling = {}
  for name in SPACES:
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
    with open(args.out, "w", encoding="utf-8") as file:
      json.dump(result, file, indent=1)
      file.write("\n")


if __name__ == "__main__":
  main()
