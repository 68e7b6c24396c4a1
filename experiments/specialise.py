"""Does hardware prefer specialised models? At equal accuracy, all else known.

    python -m experiments.specialise --out DIR [--supernets DIR] [--seeds 0 1 2]

In the space of NAS-Bench-Macro, where the accuracy of all networks is known.
The targets: latency of one image by XLA on JAX's default device and by ONNX
Runtime on one thread of the CPU, both by tables measured here; peak memory of
the activations, parameters and MACs, counted. (Extra onnx.)

For each seed: the additive model of a supernet that was trained for no target
(`experiments.nas_bench_macro`: `paths-SEED.npz` of `--supernets`, which is
trained if it is not there) says how good networks are. Its best network of 60
million MACs gives a level. Then, for each target, the cheapest network that the
model sees at this level is found exactly. So networks differ in the cost that
they were searched for, and in nothing else. Beside them stands what perfect
information gives: the cheapest networks of the same true accuracy.

All networks are measured as a whole, in turn, each several times, and looked up
in the table of accuracies. DIR keeps every reading: a run that was stopped goes
on. At its end `DIR/specialise.json` has everything, `DIR/specialise.md` the
tables, and `DIR/specialise.png` shows the networks among all others.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
import os
import pathlib
import platform

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from experiments import nas_bench_macro
from experiments.macro import benchmark, command
from experiments.macro.cheapest import cheapest, costs_of, quality
from experiments.macro.comparison import tables_of, verdicts
from experiments.macro.panels import draw
from experiments.output import write_json
from proxyless_jax.hardware import CostTable, cost_table
from proxyless_jax.hardware.journal import Journal
from proxyless_jax.hardware.measure import Plan, build_table
from proxyless_jax.hardware.onnx_runtime import onnx
from proxyless_jax.hardware.runtime import cpu_name, xla
from proxyless_jax.hardware.sampling import Bench, Patience
from proxyless_jax.nas.additive import fit_additive
from proxyless_jax.nas.derive import Constraint, derive
from proxyless_jax.nn import build, init
from proxyless_jax.run.measuring import Lines

MEASURED = ("xla", "onnx")
TARGETS = (*MEASURED, "memory", "parameters", "macs")
PERFECT = "perfect information"
# Others are compared with it as they are measured: MBConvs all along.
REFERENCE = "11111111"


class Experiment:
  """What all networks share."""

  def __init__(self, arguments: argparse.Namespace):
    self._arguments = arguments
    self.accuracies = benchmark.load(arguments.data / nas_bench_macro.TABLE)
    self.space = benchmark.space()
    self._runtimes = {"xla": xla(), "onnx": onnx(threads=1)}
    self.patience = Patience(
      arguments.tolerance,
      min(12, arguments.max_rounds),
      arguments.max_rounds,
    )
    self.checks: dict[str, dict] = {}
    self.tables = {name: self._table(name) for name in TARGETS}
    self.costs = {
      name: costs_of(table, self.accuracies.paths)
      for name, table in self.tables.items()
    }

  def _table(self, target: str) -> CostTable:
    """The table of a target; of a runtime, measured, or as it was kept."""
    if target not in MEASURED:
      return cost_table(target, self.space)
    arguments, runtime = self._arguments, self._runtimes[target]
    table, check = build_table(
      self.space,
      runtime,
      Plan(arguments.calibration, arguments.held_out, self.patience),
      journal=arguments.out / f"table-{target}.jsonl",
      on_reading=Lines(runtime.unit),
    )
    self.checks[target] = check.summary() | {"warnings": check.warnings()}
    for warning in check.warnings():
      print(f"table of {target}: warning: {warning}")
    return table

  def search(self, seed: int) -> list[dict]:
    """The cheapest network on each target at the level of a supernet."""
    valid = self.tables["macs"].valid
    paths, losses = self._losses(seed)
    v = fit_additive(paths, -losses, valid)
    limit = Constraint(
      self.tables["macs"], -math.inf, 1e6 * self._arguments.macs
    )
    level = quality(v, derive(v, valid, [limit]))
    # What the mean of all paths has; the model's constant.
    constant = losses.mean() + np.mean([quality(v, path) for path in paths])
    found = []
    for target in TARGETS:
      # MACs decide between networks of one peak of memory.
      tables = [self.tables[target], self.tables["macs"]]
      path = cheapest(v, valid, level, tables)
      found.append(
        {
          "seed": seed,
          "searched_for": target,
          "predicted_loss": constant - quality(v, path),
          **self._look_up(path),
        }
      )
    return found

  def _losses(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Paths i[n, e] and their losses f[n] on a supernet."""
    arguments = self._arguments
    folder = arguments.supernets or arguments.out
    kept = folder / f"paths-{seed}.npz"
    if not kept.exists():
      flags = ["--out", str(folder), "--data", str(arguments.data)]
      options = command.parse(command.parser(None), flags)
      nas_bench_macro.Experiment(options).supernet(seed)
    with np.load(kept) as file:
      return file["paths"], file["loss"]

  def _look_up(self, path: np.ndarray) -> dict:
    """What the tables say of a network."""
    row = self.accuracies.row(path)
    accuracy = self.accuracies.accuracy[row]
    as_good = self.accuracies.accuracy >= accuracy
    return {
      "arch": "".join(map(str, path)),
      "accuracy": float(accuracy),
      "deviation": float(self.accuracies.deviation[row]),
      "by_table": {n: float(costs[row]) for n, costs in self.costs.items()},
      # Over the cheapest network that is as accurate: 0 on the front.
      "above_front": {
        n: float(costs[row] / costs[as_good].min() - 1)
        for n, costs in self.costs.items()
      },
    }

  def perfect(self, accuracy: float) -> list[dict]:
    """The cheapest network on each target of at least this true accuracy."""
    as_good = np.flatnonzero(self.accuracies.accuracy >= accuracy)
    found = []
    for target, costs in self.costs.items():
      # Of equal ones as in the search.
      keys = (self.costs["macs"][as_good], costs[as_good])
      path = self.accuracies.paths[as_good[np.lexsort(keys)[0]]]
      found.append(
        {"seed": PERFECT, "searched_for": target, **self._look_up(path)}
      )
    return found

  def measure(self, target: str, archs: list[str]) -> dict[str, list[float]]:
    """Costs of whole networks on a runtime, of programs of their own."""
    arguments, runtime = self._arguments, self._runtimes[target]
    header = {"runtime": runtime.name, "reference": REFERENCE}
    header |= {**runtime.setting, **dataclasses.asdict(self.patience)}
    journal = Journal(arguments.out / f"networks-{target}.jsonl", header)
    passes = {
      f"{arch} {i}": self.network(arch)
      for i in range(arguments.passes)
      for arch in archs
    }
    lines, total = Lines(runtime.unit), len(passes)
    bench = Bench(
      runtime,
      self.network(REFERENCE),
      journal,
      lambda key, reading: lines(len(journal), total, key, reading),
      seed=0,
    )
    bench.measure(passes, self.patience)
    return {
      arch: [
        journal[f"{arch} {i}"].cost * journal.level
        for i in range(arguments.passes)
      ]
      for arch in archs
    }

  def network(self, arch: str):
    """The network of some digits."""
    return self.space.choose([int(digit) for digit in arch])


def temporaries(network) -> int:
  """Bytes that XLA sets aside for an image's activations."""
  module = build(network)
  variables = init(module, jax.random.key(0))
  images = jnp.zeros((1, *network.image_shape))
  apply = jax.jit(lambda variables, x: module.apply(variables, x, False))
  program = apply.lower(variables, images).compile()
  return program.memory_analysis().temp_size_in_bytes


def correlations(costs: dict[str, np.ndarray]) -> dict[str, float]:
  """Spearman's of each pair of targets, over all networks."""
  # Costs that are all equal have no order.
  names = [name for name, of_all in costs.items() if np.ptp(of_all)]
  return {
    f"{one} and {other}": float(
      scipy.stats.spearmanr(costs[one], costs[other]).statistic
    )
    for one, other in itertools.combinations(names, 2)
  }


def run(arguments: argparse.Namespace) -> dict:
  """All of it: what the module's docstring says."""
  arguments.out.mkdir(parents=True, exist_ok=True)
  experiment = Experiment(arguments)
  found = [one for seed in arguments.seeds for one in experiment.search(seed)]
  accuracy = float(np.mean([one["accuracy"] for one in found]))
  found += experiment.perfect(accuracy)
  archs = sorted({one["arch"] for one in found})
  measured = {name: experiment.measure(name, archs) for name in MEASURED}
  result = {
    "space": "NAS-Bench-Macro, CIFAR-10; batch 1, float32",
    "device": f"{jax.devices()[0].device_kind}; {cpu_name()}",
    "versions": {"jax": jax.__version__, "python": platform.python_version()},
    "load_average": os.getloadavg()[0],
    "settings": {
      name: value
      for name, value in vars(arguments).items()
      if name not in ("out", "data", "supernets")
    },
    "targets": {
      name: describe(table) | experiment.checks.get(name, {})
      for name, table in experiment.tables.items()
    },
    "rank_correlation": correlations(experiment.costs),
    "accuracy_of_perfect": accuracy,
    "networks": found,
    "measured": measured,
    "xla_temporaries": {
      arch: temporaries(experiment.network(arch)) for arch in archs
    },
  }
  result["verdicts"] = verdicts(result, TARGETS)
  draw(
    experiment.costs,
    experiment.accuracies.accuracy,
    result,
    arguments.out / "specialise.png",
  )
  return result


def describe(table: CostTable) -> dict:
  """Of a target."""
  fields = ("source", "unit", "min_cost", "max_cost")
  return {field: getattr(table, field) for field in fields}


def parser() -> argparse.ArgumentParser:
  """The command line."""
  parser = command.folders_parser(__doc__)
  add = parser.add_argument
  add("--supernets", type=pathlib.Path, help="folder; if left out, OUT")
  add("--seeds", type=int, nargs="+", default=[0, 1, 2])
  add("--macs", type=float, default=60.0, help="in millions, for the level")
  add("--calibration", type=int, default=60)
  add("--held-out", type=int, default=30)
  add("--passes", type=int, default=3, help="measurements of each network")
  add("--tolerance", type=float, default=Patience.tolerance)
  add("--max-rounds", type=int, default=Patience.most_rounds)
  return parser


def main() -> None:
  """Measures, searches, prints, writes."""
  arguments = parser().parse_args()
  result = run(arguments)
  write_json(arguments.out / "specialise.json", result)
  text = tables_of(result, TARGETS)
  (arguments.out / "specialise.md").write_text(text, encoding="utf-8")
  print(text)


if __name__ == "__main__":
  main()
