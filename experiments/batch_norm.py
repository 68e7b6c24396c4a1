"""Batch norm with ReLU6 on a CPU: XLA's operations and the kernels in C++.

    python -m experiments.batch_norm [--rounds 15] [--out FILE]

Maps of the ImageNet space at 32x32 features and batch 32. Forward is moments
and the normalised map, backward the gradients of the map, scale and bias. Both
run in turn within one process; ratios are medians over rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from experiments.output import write_json
from proxyless_jax.hardware.runtime import cpu_name
from proxyless_jax.nn import cpu_kernels
from proxyless_jax.nn.layers.batch_norm import batch_moments, batch_norm

BATCH = 32
MAPS = ((32, 72), (32, 144), (16, 240), (16, 480), (8, 576), (4, 1152))


def forward(x, scale, bias):
  """The normalised map."""
  moments = batch_moments(jax.lax.stop_gradient(x))
  return batch_norm(x, scale, bias, moments, 1e-3, "relu6")


def backward(x, scale, bias, dy):
  """Gradients, with the forward pass that they need."""
  return jax.vjp(forward, x, scale, bias)[1](dy)


def programs(operands) -> dict:
  """Both passes, each by XLA and by the kernels."""
  found = {}
  for side, on in (("xla", False), ("kernels", True)):
    with cpu_kernels.enabled(on):
      for name, function in (("forward", forward), ("both", backward)):
        own = operands if name == "both" else operands[:-1]
        compiled = jax.jit(function).lower(*own).compile()
        found[name, side] = compiled, own
  return found


def measure(size: int, channels: int, rounds: int) -> dict:
  """Milliseconds and ratios of a map."""
  shape = (BATCH, size, size, channels)
  x, dy = jax.random.normal(jax.random.key(0), (2, *shape))
  own = programs((x, jnp.ones(channels), jnp.ones(channels), dy))
  times: dict = {key: [] for key in own}
  for i in range(rounds + 2):
    for key, (program, operands) in own.items():
      start = time.perf_counter()
      jax.block_until_ready(program(*operands))
      if i >= 2:
        times[key].append(1e3 * (time.perf_counter() - start))
  return {
    "shape": shape,
    "ms": {" ".join(key): statistics.median(t) for key, t in times.items()},
    "xla / kernels": {
      name: statistics.median(
        a / b for a, b in zip(times[name, "xla"], times[name, "kernels"])
      )
      for name in ("forward", "both")
    },
  }


def main(argv: Sequence[str] | None = None) -> dict:
  """Measures, prints, and writes where asked."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--rounds", type=int, default=15)
  parser.add_argument("--out")
  args = parser.parse_args(argv)
  if not cpu_kernels.available():
    raise SystemExit("the kernels are not available here: see the warning")
  rows = [measure(*of, args.rounds) for of in MAPS]
  for row in rows:
    times = ", ".join(f"{key} {ms:.2f}" for key, ms in row["ms"].items())
    ratios = ", ".join(f"{v:.2f}" for v in row["xla / kernels"].values())
    print(f"{row['shape']}: ms {times}; xla / kernels {ratios}")
  found = {
    "device": cpu_name(),
    "cores": os.cpu_count(),
    "jax": jax.__version__,
    "rows": rows,
  }
  if args.out:
    write_json(args.out, found)
  return found


if __name__ == "__main__":
  main()
