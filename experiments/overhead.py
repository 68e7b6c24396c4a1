"""What does a run do between its steps? The loop of a search, beside its steps.

    python -m experiments.overhead [--blocks 9] [--out FILE]

The search of `configs/mnist.py`, and of its variant `quick`, runs as
`proxyless_jax.main` runs it: data, metrics, progress, logs and checkpoints; the
learning rate alone is a constant. Between blocks of steps the same compiled
weight step runs as often on one batch on the device, with nothing in between.
Prints the ratio of both, in one process and in turn (extra demo).
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from experiments.output import write_json
from proxyless_jax.configs import mnist
from proxyless_jax.data import load
from proxyless_jax.nas import gates
from proxyless_jax.nas.weight_step import weight_step
from proxyless_jax.nn import build
from proxyless_jax.parallel.mesh import jit_step, make_mesh, to_devices
from proxyless_jax.run.black_box import Calls
from proxyless_jax.run.config.options import parse
from proxyless_jax.run.costs import make_costs
from proxyless_jax.run.loop import run_stage
from proxyless_jax.run.search_stage import search_stage


class Watched:
  """`advance` of a stage, which measures blocks of it and of plain steps.

  Attributes:
    loop, alone: seconds a step of each block, in the loop and by itself.
  """

  def __init__(self, advance, step, block: int):
    """Measures blocks.

    Args:
      advance: that of the stage.
      step: function from a state to the next one.
      block: number of steps in a block.
    """
    self._advance, self._step, self._block = advance, step, block
    self._began: float | None = None
    self.loop: list[float] = []
    self.alone: list[float] = []

  def __call__(self, state, number: int):
    if number % self._block == 0:
      jax.block_until_ready(state)
      if self._began is not None:
        spent = time.perf_counter() - self._began
        self.loop.append(spent / self._block)
        self.alone.append(self._seconds_alone(state))
      self._began = time.perf_counter()
    return self._advance(state, number)

  def _seconds_alone(self, state) -> float:
    state = self._step(jax.tree.map(jnp.copy, state))  # The first one compiles.
    jax.block_until_ready(state)
    start = time.perf_counter()
    for _ in range(self._block):
      state = self._step(state)
    jax.block_until_ready(state)
    return (time.perf_counter() - start) / self._block


def measure(variant: str, blocks: int, block: int) -> dict:
  """Milliseconds a step, in the loop and alone, of each block but the first."""
  config = mnist.get_config(variant)
  options = parse(config)
  dataset = load(options.data)
  space = options.make_space(dataset.classes)
  costs = make_costs(options.search.costs, space)
  with tempfile.TemporaryDirectory() as workdir:
    calls = Calls(space, options.search.costs, workdir)
    tx = options.search.tx(optax.constant_schedule(0.01), kernels_only=False)
    stage = search_stage(options, dataset, space, costs, calls, tx=tx)
    step = _step(options, stage, space, tx)
    watched = Watched(stage.advance, step, block)
    steps = (blocks + 1) * block + 1
    run_stage(
      dataclasses.replace(stage, steps=steps, advance=watched),
      workdir,
      options.run,
    )
  # The first block compiles.
  loop, alone = watched.loop[1:], watched.alone[1:]
  return {
    "config": f"mnist:{variant}".rstrip(":"),
    "steps a block": block,
    "ms a step in the loop": [1e3 * seconds for seconds in loop],
    "ms a step alone": [1e3 * seconds for seconds in alone],
    "loop / alone": statistics.median(a / b for a, b in zip(loop, alone)),
  }


def _step(options, stage, space, tx):
  """The weight step of the stage, on one batch: state -> state."""
  search, mesh = options.search, make_mesh()
  step = functools.partial(
    weight_step,
    module=build(space, dtype=options.compute_dtype),
    valid=gates.valid_candidates(space),
    tx=tx,
    label_smoothing=search.label_smoothing,
    grad_accum=search.grad_accum,
    paths=search.paths,
    mesh=mesh,
  )
  jitted = jit_step(step, mesh)
  batch = to_devices(next(stage.iterators["weights"]), mesh)
  return lambda state: jitted(state, batch)[0]


def main(argv: Sequence[str] | None = None) -> dict:
  """Measures, prints, and writes where asked."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--variants", nargs="+", default=["", "quick"])
  parser.add_argument("--blocks", type=int, default=9)
  parser.add_argument("--block", type=int, default=50, help="steps of a block")
  parser.add_argument("--out")
  arguments = parser.parse_args(argv)
  found = {
    "device": jax.devices()[0].device_kind,
    "cores": os.cpu_count(),
    "jax": jax.__version__,
    "searches": [
      measure(variant, arguments.blocks, arguments.block)
      for variant in arguments.variants
    ],
  }
  for of in found["searches"]:
    loop, alone = of["ms a step in the loop"], of["ms a step alone"]
    print(
      f"{of['config']}: {statistics.median(loop):.2f} ms a step in the loop, "
      f"{statistics.median(alone):.2f} alone: ratio {of['loop / alone']:.3f}"
    )
  if arguments.out:
    write_json(arguments.out, found)
  return found


if __name__ == "__main__":
  main()
