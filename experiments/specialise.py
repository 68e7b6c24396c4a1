"""Is a network that was searched for a target the cheapest there?

    python -m experiments.specialise [--out FILE]   (extras demo and onnx)

Three targets of one space: latency on this CPU by XLA and by ONNX Runtime, both
measured at batch 1, and MACs. `configs/mnist.py` searches once for each, for at
most min_cost + 0.25 (max_cost - min_cost) in the target's own terms, and trains
each network alike. Prints what each network costs on each target, by the table
and, where there is something to measure, measured as a whole, twice. Networks
are equally accurate where they are within two standard errors, and cost the
same where they are within the noise of measuring networks again. Prints too
how alike targets rank architectures, MACs and a Pixel 1 phone among them.

Called again with the same `--workdir`, it continues where it was stopped.
"""

from __future__ import annotations

import argparse
import math
import os
import platform

import jax
from scipy import stats

import proxyless_jax as pj
from experiments.output import write_json
from proxyless_jax.configs import imagenet_mobile, mnist
from proxyless_jax.hardware.design import draw_networks
from proxyless_jax.hardware.journal import Journal
from proxyless_jax.hardware.sampling import Bench, Patience
from proxyless_jax.run.config.options import parse
from proxyless_jax.run.measuring import make_runtime

RUNTIMES = ("xla", "onnx")
TARGETS = (*RUNTIMES, "macs")
STRICTNESS = 0.25
RANDOM = 200
TEST_IMAGES = 1000


def config_of(seed: int):
  """The search's config, of no target yet."""
  config = mnist.get_config("published")
  config.seed = seed
  config.search.update(warmup_epochs=1.0, epochs=4.0)
  config.search.arch.update(lr=0.05, every=1, after_epochs=0.5)
  config.train.epochs = 6.0
  config.measure.update(calibration=40, held_out=15, max_rounds=60)
  config.run.update(log_every=100, checkpoint_every=500)
  return config


def measure(runtime: str, seed: int, workdir: str) -> tuple[str, dict]:
  """Path of a runtime's table, and how good it is."""
  config = config_of(seed)
  config.job = "measure"
  config.measure.update(runtime=runtime, classes=10)
  folder = os.path.join(workdir, f"table_{runtime}")
  result = pj.measure(config, folder)
  check = {k: result[k] for k in ("error_mean", "spearman", "noise_mean")}
  return os.path.join(folder, "table.json"), check


def search(name: str, kind: str, reference: str, seed: int, workdir: str):
  """The network for one target, and the result of its run."""
  config = config_of(seed)
  cost = dict(config.search.costs.hardware, kind=kind, reference=reference)
  cost.update(form="at_most", weight=0.1)
  config.search.costs = {name: cost}
  folder = os.path.join(workdir, name)
  result = pj.search(config, folder)
  return pj.load_network(os.path.join(folder, "architecture.json")), result


def measured_costs(networks, runtime: str, seed: int) -> dict:
  """Two measurements of each whole network, of programs of their own, in ms."""
  config = config_of(seed)
  config.measure.update(runtime=runtime, classes=10)
  journal = Journal(None, {})
  bench = Bench(
    make_runtime(parse(config).measure),
    networks["macs"],
    journal,
    lambda *_: None,
    seed,
  )
  passes = {(n, i): networks[n] for n in networks for i in (1, 2)}
  bench.measure(passes, Patience(most_rounds=200))
  return {
    name: [journal[name, i].cost * journal.level for i in (1, 2)]
    for name in networks
  }


def verdict(target: str, costs, top1, noise: float) -> str:
  """Whether the target's own network is the cheapest of equal accuracy.

  Args:
    target: and the name of its network.
    costs: costs on the target, by network.
    top1: top-1 accuracy by network.
    noise: relative, below which costs are the same.
  """
  equal = [n for n in costs if top1[n] >= top1[target] - error_of(top1, target)]
  rivals = {n: costs[n] for n in equal if n != target}
  if not rivals:
    return f"{target}: no other network is as accurate"
  rival = min(rivals, key=rivals.get)
  ratio = costs[target] / rivals[rival] - 1
  beside = f"{100 * ratio:+.1f} % beside {rival}'s, noise {100 * noise:.1f} %"
  if abs(ratio) <= noise:
    return f"{target}: no difference beyond the noise ({beside})"
  found = "its own network is" if ratio < 0 else "its own network is NOT"
  others = "" if len(equal) == len(costs) else " of the equally accurate ones"
  return f"{target}: {found} the cheapest{others} ({beside})"


def error_of(top1, name: str) -> float:
  """Two standard errors of the difference of two accuracies such as this."""
  return 2 * math.sqrt(2 * top1[name] * (1 - top1[name]) / TEST_IMAGES)


def rank_correlations(space, tables, seed: int) -> dict[str, float]:
  """Spearman's, of each pair of tables, over random architectures."""
  networks = draw_networks(space, RANDOM, seed)
  costs = {k: [t.exact(n) for n in networks] for k, t in tables.items()}
  names = list(tables)
  return {
    f"{one}, {other}": float(stats.spearmanr(costs[one], costs[other])[0])
    for i, one in enumerate(names)
    for other in names[i + 1 :]
  }


def phone_correlation(seed: int) -> float:
  """MACs against the Pixel 1's latency, in the released search's space."""
  options = parse(imagenet_mobile.get_config())
  space = options.make_space(1000)
  tables = {kind: pj.cost_table(kind, space) for kind in ("macs", "pixel1")}
  (value,) = rank_correlations(space, tables, seed).values()
  return value


def experiment(seed: int, workdir: str) -> dict:
  """All of it: what the module's docstring says."""
  space = parse(config_of(seed)).make_space(10)
  checks = {name: measure(name, seed, workdir) for name in RUNTIMES}
  kinds = {name: path for name, (path, _) in checks.items()} | {"macs": "macs"}
  tables = {name: pj.cost_table(kind, space) for name, kind in kinds.items()}
  networks, results = {}, {}
  for name, table in tables.items():
    target = table.min_cost + STRICTNESS * (table.max_cost - table.min_cost)
    networks[name], results[name] = search(
      name, kinds[name], f"{target:.5g} {table.unit}", seed, workdir
    )
  costs = {
    "cost_by_table": {
      name: {other: table.exact(n) for other, n in networks.items()}
      for name, table in tables.items()
    },
    "cost_measured": {n: measured_costs(networks, n, seed) for n in RUNTIMES},
  }
  noise = {name: check["noise_mean"] for name, (_, check) in checks.items()}
  return {
    "workload": "configs/mnist.py's space and digits, batch 1, float32",
    "versions": {"jax": jax.__version__, "python": platform.python_version()},
    "load_average": os.getloadavg()[0],
    "seed": seed,
    "strictness": STRICTNESS,
    "targets": {
      name: describe(table) | (checks[name][1] if name in checks else {})
      for name, table in tables.items()
    },
    "networks": {n: found(n, networks[n], results[n]) for n in TARGETS},
    **costs,
    "verdicts": verdicts(**costs, results=results, noise=noise),
    "rank_correlation": rank_correlations(space, tables, seed),
    "rank_correlation_macs_pixel1": phone_correlation(seed),
  }


def verdicts(cost_by_table, cost_measured, results, noise) -> list[str]:
  """Of each target: by whole networks measured, where they are."""
  top1 = {name: result["top1"] for name, result in results.items()}
  lines = []
  for name in TARGETS:
    passes = cost_measured.get(name)
    costs = cost_by_table[name]
    if passes:
      costs = {other: sum(p) / len(p) for other, p in passes.items()}
    lines.append(verdict(name, costs, top1, noise.get(name, 0.0)))
  return lines


def describe(table: pj.CostTable) -> dict:
  """Of a target."""
  fields = ("source", "unit", "min_cost", "max_cost")
  return {field: getattr(table, field) for field in fields}


def found(name: str, network: pj.Network, result: dict) -> dict:
  """What one search and training gave."""
  return {
    "ops": [edge.op.name for edge in network.edges],
    "top1": result["top1"],
    "target": result[f"target_{name}"],
    "met": result[f"met_{name}"],
    "edges_off_argmax": result["edges_off_argmax"],
    "seconds": result["seconds_search"] + result["seconds_train"],
  }


def show(result: dict) -> None:
  """Prints the cross table and what follows."""
  print(f"{'network for':>12} {'top-1 %':>8}", end="")
  print("".join(f" {name + ' ' + 'table, measured':>30}" for name in TARGETS))
  for name, network in result["networks"].items():
    print(f"{name:>12} {100 * network['top1']:8.1f}", end="")
    for target in TARGETS:
      text = f"{result['cost_by_table'][target][name]:.5g}"
      if target in result["cost_measured"]:
        passes = result["cost_measured"][target][name]
        text += ", " + " and ".join(f"{p:.4g}" for p in passes)
      print(f" {text + ' ' + result['targets'][target]['unit']:>30}", end="")
    print()
  print("\n".join(result["verdicts"]))
  top1 = {name: n["top1"] for name, n in result["networks"].items()}
  error = max(error_of(top1, name) for name in top1)
  print(f"accuracies within {100 * error:.1f} points are equal")
  print(f"rank correlation over {RANDOM}: {result['rank_correlation']}")
  phone = result["rank_correlation_macs_pixel1"]
  print(f"of MACs and Pixel 1 in the default mobile space: {phone:.3f}")


def main() -> None:
  """Measures, searches, prints, writes."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--workdir", default="runs/specialise")
  parser.add_argument("--out", help="file for the results, JSON")
  arguments = parser.parse_args()
  result = experiment(arguments.seed, arguments.workdir)
  show(result)
  if arguments.out:
    write_json(arguments.out, result)


if __name__ == "__main__":
  main()
