"""Depthwise convolution, ours against XLA's native one: time, compile time.

  python experiments/depthwise.py

Cases are the depthwise convolutions of the ImageNet space at 32x32 features
and batch 32. Both sides run in turn within one process and the smallest time of
several counts. Writes experiments/results/depthwise.json.
"""

import argparse
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
from jax import lax

from proxyless_jax.nn.layers.depthwise import depthwise_conv

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
  "           shape  k  s |  forward, ms: native    ours  ratio"
  " | and backward: native    ours  ratio | compile, s: native  ours"
  " | temporaries / input"
)


def native_conv(x, kernel, stride):
  """The same convolution by XLA's own operation."""
  pad = kernel.shape[0] // 2
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    [(pad, pad), (pad, pad)],
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1],
  )


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
    native, native_compile = compile_(build(native_conv, stride), args)
    ours, ours_compile = compile_(build(depthwise_conv, stride), args)
    for a, b in zip(
      jax.tree.leaves(native(*args)), jax.tree.leaves(ours(*args))
    ):
      np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-2)
    times = seconds((native, ours), args, repeats)
    temporaries = ours.memory_analysis().temp_size_in_bytes
    row[name] = {
      "native_s": times[0],
      "ours_s": times[1],
      "ratio": times[0] / times[1],
      "native_compile_s": native_compile,
      "ours_compile_s": ours_compile,
      "temporaries_per_input": temporaries / x.nbytes,
    }
  return row


def format_row(row):
  """A line below HEADER."""
  one, both = row["forward"], row["forward_backward"]
  shape = "x".join(map(str, row["shape"]))
  return (
    f"{shape:>16} {row['kernel']:2} {row['stride']:2} |"
    f" {1e3 * one['native_s']:19.2f} {1e3 * one['ours_s']:7.2f}"
    f" {one['ratio']:6.1f} |"
    f" {1e3 * both['native_s']:20.2f} {1e3 * both['ours_s']:7.2f}"
    f" {both['ratio']:6.1f} |"
    f" {both['native_compile_s']:18.2f} {both['ours_compile_s']:5.2f} |"
    f" {both['temporaries_per_input']:19.1f}"
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
