"""Depthwise convolution on a CPU: XLA's native one, and our two forms of it.

  python experiments/depthwise.py

Cases are the depthwise convolutions of the ImageNet space at 32x32 features
and batch 32: as sums of products by XLA, which inference runs, and by the
kernels in C++, which training runs. All run in turn within one process and the
smallest time of several counts. Writes experiments/results/depthwise.json.
"""

import argparse
import functools
import json
import math
import os
import pathlib
import platform
import time

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from proxyless_jax.nn.layers.depthwise import depthwise_conv, native

BATCH = 32
SHAPES = [  # height and width, channels, stride
  (32, 72, 1),
  (32, 144, 1),
  (32, 144, 2),
  (16, 120, 1),
  (16, 240, 1),
  (16, 480, 1),
  (16, 480, 2),
  (8, 288, 1),
  (8, 576, 1),
  (8, 1152, 1),
  (8, 576, 2),
]
KERNELS = (3, 5, 7)
HEADER = (
  "           shape  k  s | forward, ms: native  products  kernels"
  " | and backward: native  products  kernels  ratio"
  " | compile, s: native  products  kernels"
)


SIDES = {
  "native": native,
  "products": depthwise_conv,
  "kernels": functools.partial(depthwise_conv, train=True),
}


def forward(conv, stride):
  """(x, kernel, g) -> output."""
  return lambda x, kernel, g: conv(x, kernel, stride)


def forward_backward(conv, stride):
  """(x, kernel, g) -> output, gradient of x, gradient of the kernel."""

  def run(x, kernel, g):
    out, vjp = jax.vjp(lambda x, kernel: conv(x, kernel, stride), x, kernel)
    return out, *vjp(g)

  return run


def compile_(function, args):
  """The executable, and the seconds that lowering and compiling took."""
  jax.clear_caches()
  start = time.perf_counter()
  executable = jax.jit(function).lower(*args).compile()
  return executable, time.perf_counter() - start


def seconds(executables, args, repeats):
  """The smallest seconds of each, all run in turn after one warm-up."""
  smallest = [math.inf] * len(executables)
  for repeat in range(repeats + 1):
    for i, executable in enumerate(executables):
      start = time.perf_counter()
      jax.block_until_ready(executable(*args))
      if repeat:
        smallest[i] = min(smallest[i], time.perf_counter() - start)
  return smallest


def measure(size, channels, k, stride, repeats):
  """One row of the table, times in seconds."""
  rng = np.random.default_rng(0)
  out_size = -(-size // stride)
  x, kernel, g = (
    jnp.asarray(rng.normal(size=shape), jnp.float32)
    for shape in (
      (BATCH, size, size, channels),
      (k, k, 1, channels),
      (BATCH, out_size, out_size, channels),
    )
  )
  args = (x, kernel, g)
  row = {"shape": x.shape, "kernel": k, "stride": stride}
  for name, build in (
    ("forward", forward),
    ("forward_backward", forward_backward),
  ):
    programs, compiling = {}, {}
    for side, conv in SIDES.items():
      programs[side], compiling[side] = compile_(build(conv, stride), args)
    want = jax.tree.leaves(programs["native"](*args))
    for program in programs.values():
      for a, b in zip(want, jax.tree.leaves(program(*args))):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-2)
    times = dict(zip(programs, seconds(programs.values(), args, repeats)))
    row[name] = {
      "s": times,
      "native / kernels": times["native"] / times["kernels"],
      "products / kernels": times["products"] / times["kernels"],
      "compile_s": compiling,
      "temporaries_per_input": {
        side: program.memory_analysis().temp_size_in_bytes / x.nbytes
        for side, program in programs.items()
      },
    }
  return row


def format_row(row):
  """A line below HEADER."""
  one, both = row["forward"], row["forward_backward"]
  shape = "x".join(map(str, row["shape"]))
  ours = ("products", "kernels")

  def ms(of):
    return "".join(f" {1e3 * of['s'][side]:9.2f}" for side in ours)

  return (
    f"{shape:>16} {row['kernel']:2} {row['stride']:2} |"
    f" {1e3 * one['s']['native']:19.2f}{ms(one)} |"
    f" {1e3 * both['s']['native']:20.2f}{ms(both)}"
    f" {both['native / kernels']:6.1f} |"
    f" {both['compile_s']['native']:18.2f}"
    + "".join(f" {both['compile_s'][side]:9.2f}" for side in ours)
  )


def main():
  """Prints the table and writes the JSON."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument(
    "--output",
    type=pathlib.Path,
    default=pathlib.Path(__file__).parent / "results" / "depthwise.json",
  )
  flags = parser.parse_args()
  device = jax.devices()[0]
  rows = []
  print(HEADER)
  for size, channels, stride in SHAPES:
    for k in KERNELS:
      rows.append(measure(size, channels, k, stride, flags.repeats))
      print(format_row(rows[-1]), flush=True)
  result = {
    "device": f"{device.platform} {device.device_kind}",
    "machine": platform.machine(),
    "cores": os.cpu_count(),
    "python": platform.python_version(),
    "jax": jax.__version__,
    "jaxlib": jaxlib.__version__,
    "repeats": flags.repeats,
    "rows": rows,
  }
  flags.output.parent.mkdir(parents=True, exist_ok=True)
  flags.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
  main()
