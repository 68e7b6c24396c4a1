"""A table of NAS-Bench-Macro's form whose accuracies are made up."""

import csv
import itertools

import numpy as np

from experiments import nas_bench_macro
from experiments.macro import benchmark
from experiments.macro.cheapest import costs_of
from proxyless_jax.hardware import cost_table

# What the digits 0, 1 and 2 are worth, the more the later the block.
WORTH = np.outer(np.arange(1, 9), [0.0, 0.06, 0.08])


def write_table(folder, rng, deviation):
  """Accuracies follow `WORTH`, and differ between trainings by a deviation."""
  paths = np.array(list(itertools.product(range(3), repeat=8)))
  tables = {n: cost_table(n, benchmark.space()) for n in ("macs", "parameters")}
  costs = {name: costs_of(table, paths) for name, table in tables.items()}
  with (folder / nas_bench_macro.TABLE).open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["arch", "acc_1", "acc_2", "acc_3", "params", "flops"])
    for row, path in enumerate(paths):
      trained = 90 + WORTH[range(8), path].sum() + rng.normal(0, deviation, 3)
      counts = [int(costs[n][row]) for n in ("parameters", "macs")]
      writer.writerow(["".join(map(str, path)), *trained, *counts])
