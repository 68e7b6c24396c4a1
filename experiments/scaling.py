"""Projected speed of the ImageNet search on 1 to 512 accelerators.

    python -m experiments.scaling [--paths 3] [--out FILE]

Weight steps, and every fifth time an architecture step, of
`configs/imagenet_gpu.py` at 224 pixels: computing by `experiments.costs`, what
devices exchange by the results of `experiments.communication`, both on the
accelerators of `experiments.accelerators`. Nothing overlaps: a sum begins when
what it adds up is there, and computing continues when it has ended.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from typing import NamedTuple

import jax

from experiments import costs
from experiments.accelerators import ACCELERATORS, Accelerator
from experiments.output import write_json
from proxyless_jax.configs import imagenet_gpu
from proxyless_jax.run.config.options import parse

COUNTS = (1, 8, 64, 512)
EXCHANGES = "experiments/results/communication.json"
# Activations are bfloat16 on accelerators, and nearly all that moves.
SHRINK = 0.5


class Step(NamedTuple):
  """One step of a search.

  Attributes:
    flops, traffic: operations, and bytes moved, for an image in bfloat16.
    exchanged: bytes that devices add up.
    collectives: number of collectives, one after the other.
    of_norms: number of them that batch norm waits for.
  """

  flops: float
  traffic: float
  exchanged: float
  collectives: float
  of_norms: float


class Times(NamedTuple):
  """Seconds of an average step.

  Attributes:
    compute: time of computation on every accelerator.
    transfer: time of what is exchanged, beside the latencies.
    norms, others: latencies of sums, for batch norm and of gradients.
  """

  compute: float
  transfer: float
  norms: float
  others: float


def read_exchanges(path: str) -> dict[str, tuple[float, ...]]:
  """Of sums over devices by step: bytes, number, number of batch norm's.

  Of a weight step, the mean over the paths that take one candidate everywhere;
  of an architecture step, with every candidate of every edge.
  """
  with open(path, encoding="utf-8") as file:
    result = json.load(file)
  steps = [row["supernet"] for row in result["weight"].values()]
  steps = {"weight": steps, "arch full": [result["architecture"]["arch full"]]}
  return {
    name: tuple(
      sum(row[what] for row in rows) / len(rows)
      for what in ("bytes", "collectives", "of_norms")
    )
    for name, rows in steps.items()
  }


def times(accelerator: Accelerator, count: int, batch: float, parts) -> Times:
  """Seconds of an average step.

  Args:
    accelerator: kind of accelerator.
    count: how many of them.
    batch: images on each.
    parts: pairs of a `Step` and how often it is run.
  """
  latency = accelerator.latency(count)
  compute = transfer = norms = others = 0.0
  for step, share in parts:
    seconds = accelerator.compute(step.flops * batch, step.traffic * batch)
    compute += share * seconds
    transfer += share * accelerator.transfer(step.exchanged, count)
    norms += share * step.of_norms * latency
    others += share * (step.collectives - step.of_norms) * latency
  return Times(compute, transfer, norms, others)


def rows_of(parts, global_batch: int, strong: bool) -> list[dict]:
  """The table's rows: each accelerator, each count.

  Args:
    parts: as for `times`.
    global_batch: batch of the recipe; on every accelerator unless `strong`.
    strong: the batch is shared by all accelerators.
  """
  rows = []
  for accelerator in ACCELERATORS:
    alone = None
    for count in COUNTS:
      if strong and global_batch < count:
        continue
      batch = global_batch // count if strong else global_batch
      own = times(accelerator, count, batch, parts)
      speed = batch * count / sum(own)
      alone = alone or speed
      rows.append(
        {
          "accelerator": accelerator.name,
          "count": count,
          "batch": batch,
          **{f"{name}_ms": 1e3 * t for name, t in own._asdict().items()},
          "step_ms": 1e3 * sum(own),
          "images_per_second": speed,
          "efficiency": speed / (alone * count),
        }
      )
  return rows


def print_table(rows: list[dict]) -> None:
  """In Markdown."""
  print(
    "| accelerator | number | images each | computing, ms | transfer, ms | "
    "batch norm's latency, ms | other latency, ms | step, ms | images/s | "
    "efficiency |"
  )
  print("|---|---|---|---|---|---|---|---|---|---|")
  for row in rows:
    print(
      f"| {row['accelerator']} | {row['count']} | {row['batch']} | "
      f"{row['compute_ms']:.1f} | {row['transfer_ms']:.2f} | "
      f"{row['norms_ms']:.1f} | {row['others_ms']:.1f} | "
      f"{row['step_ms']:.1f} | {row['images_per_second']:,.0f} | "
      f"{row['efficiency']:.0%} |"
    )


def print_inputs(measured: dict, exchanges: dict) -> None:
  """What the tables follow from, in Markdown."""
  print(
    "| step | GFLOP | MB | MB at least | MB exchanged | all-reduces | "
    "of batch norm |"
  )
  print("|---|---|---|---|---|---|---|")
  for name in exchanges:
    one = measured[name]
    size, *counts = exchanges[name]
    counts = " | ".join(f"{count:.0f}" for count in counts)
    print(
      f"| {name} | {one.flops / 1e9:.2f} | {SHRINK * one.traffic / 1e6:.0f} | "
      f"{SHRINK * one.least / 1e6:.0f} | {size / 1e6:.2f} | {counts} |"
    )


def tables_of(measured: dict, exchanges: dict, search) -> dict[str, list]:
  """Rows by the tables' names.

  Args:
    measured: costs by step.
    exchanges: result of `read_exchanges`.
    search: the section of the config.
  """
  often = {"weight": 1.0, "arch full": 1.0 / search.arch.every}

  def parts(what):
    return [
      (
        Step(one.flops, SHRINK * getattr(one, what), *exchanges[name]),
        often[name],
      )
      for name, one in measured.items()
      if name in often
    ]

  return {
    "weak": rows_of(parts("traffic"), search.batch, strong=False),
    "strong": rows_of(parts("traffic"), search.batch, strong=True),
    "weak, least traffic": rows_of(parts("least"), search.batch, strong=False),
  }


def main():
  """Compiles, projects, prints."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--paths", type=int, default=3)
  parser.add_argument("--out")
  args = parser.parse_args()
  start = time.perf_counter()
  options = parse(imagenet_gpu.get_config())
  space = options.make_space(classes=1000)
  measured = costs.of_steps(space, costs.random_paths(space, args.paths))
  exchanges = read_exchanges(EXCHANGES)
  tables = tables_of(measured, exchanges, options.search)
  print_inputs(measured, exchanges)
  for name, rows in tables.items():
    print(f"\n{name}\n")
    print_table(rows)
  print(f"\n{time.perf_counter() - start:.0f} s")
  if args.out:
    result = {
      "versions": {"jax": jax.__version__, "python": platform.python_version()},
      "costs": {name: one._asdict() for name, one in measured.items()},
      "exchanges": exchanges,
      "tables": tables,
    }
    write_json(args.out, result)


if __name__ == "__main__":
  main()
