"""By which statistics of batch norm should the paths of a supernet be judged?

    python -m experiments.recalibration --out DIR [--seeds 0] [--judged 200]

DIR is that of `experiments.nas_bench_macro`, whose supernets are used. The same
paths on the same 500 held-out images: in batches of several sizes, by whose
statistics batch norm works, and by the averages of all paths that the supernet
kept in training. How well accuracies and losses rank the networks: Kendall's
tau with the known accuracies. Writes `DIR/recalibration.json`.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Sequence

import jax
import numpy as np

from experiments.macro import command
from experiments.nas_bench_macro import Experiment
from experiments.output import Parts

BATCHES = (500, 100, 25)
AVERAGES = "averages of the supernet"


def main(argv: Sequence[str] | None = None) -> dict:
  """Scores the paths in each way, and prints and writes all."""
  parser = command.parser(__doc__)
  parser.add_argument("--judged", type=command.positive, default=200)
  arguments = command.parse(parser, argv)
  experiment = Experiment(arguments)
  settings = {
    "paths": arguments.judged,
    "images": arguments.score_images,
    "device": jax.devices()[0].device_kind,
    "cores": os.cpu_count(),
  }
  parts = Parts(arguments.out / "recalibration.json", settings)
  for seed in arguments.seeds:
    variables, paths, _ = experiment.supernet(seed)
    judge = _Judge(experiment, variables, paths[: arguments.judged])
    for name, way in ways(arguments.score_images).items():
      parts.get(f"{seed}: {name}", functools.partial(judge, **way))
  print(summary(parts.values))
  return parts.values


def ways(images: int) -> dict[str, dict]:
  """The arguments of a judge, by name."""
  found: dict[str, dict] = {
    f"batches of {batch}": {"batch": batch}
    for batch in BATCHES
    if batch <= images
  }
  return {**found, AVERAGES: {"batch": images, "running": True}}


class _Judge:
  """Scores paths, and compares them with the table."""

  def __init__(self, experiment: Experiment, variables, paths: np.ndarray):
    self._experiment, self._variables = experiment, variables
    self._paths = paths

  def __call__(self, batch: int, running: bool = False) -> dict:
    experiment, start = self._experiment, time.perf_counter()
    images = experiment.arguments.score_images
    top1, loss = experiment.net.score(
      self._variables, self._paths, images, batch, running
    )
    return {
      "seconds": time.perf_counter() - start,
      "mean_loss": float(loss.mean()),
      **experiment.compare(self._paths, top1, loss),
    }


def summary(values: dict) -> str:
  """A line for each way and seed."""
  lines = ["tau by loss  by top1  mean top1   seed: statistics"]
  for name, of in values.items():
    if name != "settings":
      lines.append(
        f"{of['by_loss']['tau']:11.2f}  {of['by_top1']['tau']:7.2f}  "
        f"{of['mean_top1']:9.1f}   {name}"
      )
  return "\n".join(lines)


if __name__ == "__main__":
  main()
