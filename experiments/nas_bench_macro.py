"""Does the search find good networks? Looked up, not trained: NAS-Bench-Macro.

    python -m experiments.nas_bench_macro --out DIR [--whole] [--seeds 0 1 2]

First a supernet for each seed: weights alone, by fair paths, for no target in
particular. As it trains, its accuracy (inherited weights, statistics of the
batch) is compared with the table: Kendall's tau and Spearman's rho over 200
networks, and at the end over every third. Then, from its weights, a search by
gradient (`full`, `two`) and by REINFORCE for each target in millions of MACs.
What each gives is looked up in the table: argmax within the target, and what a
second look (`macro.second_look`) finds at paths drawn from the search's
probabilities, and at paths drawn uniformly.

`--whole` takes all of CIFAR-10 and a GPU's batch; without it a part that two
cores can bear. DIR keeps weights and a line for each search: what is there is
not done again. At its end `DIR/nas_bench_macro.json` has everything, and
`DIR/nas_bench_macro.png` shows the found networks among all others.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import math
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from experiments import cifar10
from experiments.macro import benchmark, training
from experiments.macro.figure import draw
from experiments.macro.second_look import draw_near, fit_additive
from proxyless_jax.nas import gates
from proxyless_jax.nas.derive import Constraint, derive

DATA = pathlib.Path(__file__).parents[2] / "shared" / "data"
TABLE, IMAGES = "nas_bench_macro_cifar10.csv", "cifar10_jpeg.npz"
TARGETS = (40.0, 60.0, 80.0)
# Of the second look: the least part of the target, and the ridge regression's.
NEAR, RIDGE = 0.75, 1.0
RANKED = 200  # Networks whose ranks are compared as a supernet trains.
EVERY = 3  # Of the table's networks, one is scored at the end.
SMALL = training.Settings(batch=64, ramp_steps=50)
WHOLE = training.Settings(batch=256, dtype="bfloat16")


class Experiment:
  """Everything that supernets and searches share."""

  def __init__(self, arguments: argparse.Namespace):
    self.arguments = arguments
    self.table = benchmark.load(arguments.data / TABLE)
    per_class = None if arguments.whole else arguments.per_class
    train, _ = cifar10.load(arguments.data / IMAGES, per_class)
    images = cifar10.split(train, len(train.label) // 10, seed=0)
    self.sizes = [len(part.label) for part in images]
    self.settings = settings_of(arguments, self.sizes[0])
    self.net = training.Supernet(self.settings, *images)
    self._size = arguments.score_images, arguments.score_batch

  def supernet(self, seed: int) -> dict:
    """The variables of a warm-up: trained, or as they were kept."""
    path = self.arguments.out / f"supernet-{seed}.npz"
    state = self.net.init(seed)
    if path.exists():
      return restore(path, training.variables_of(state))
    started, record = time.perf_counter(), []
    rows = np.random.default_rng(0).choice(
      len(self.table.paths), RANKED, replace=False
    )
    looks = self.arguments.looks
    for _ in range(looks):
      state, metrics = self.net.warm_up(
        state, self.settings.warmup_steps // looks
      )
      entry = {"step": int(state.step), **means(metrics)}
      entry["seconds"] = time.perf_counter() - started
      entry |= self._ranks(training.variables_of(state), rows)
      record.append(entry)
      print(json.dumps(entry), flush=True)
    variables = training.variables_of(state)
    rows = np.arange(len(self.table.paths))[::EVERY]
    self._keep(
      "supernets.jsonl",
      {
        "seed": seed,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "settings": dataclasses.asdict(self.settings),
        "images": self.sizes,
        "record": record,
        f"every_{EVERY}": self._ranks(variables, rows),
      },
    )
    save(path, variables)
    return variables

  def _ranks(self, variables, rows) -> dict:
    score = self.net.score(variables, self.table.paths[rows], *self._size)
    return {**ranks(score, self.table.accuracy[rows]), "mean": score.mean()}

  def search(self, variables, seed: int, algorithm: str, target: float) -> None:
    """Searches, and looks up what was found."""
    started = time.perf_counter()
    settings, net = self.settings, self.net
    rounds = settings.steps // settings.every
    found, metrics = net.search(
      net.begin_search(variables, seed), target, rounds, algorithm
    )
    arch = np.asarray(found.arch)
    limits = [Constraint(net.table, -math.inf, target)]
    entropy = gates.entropy(found.arch, jnp.asarray(net.valid))
    entry = {
      "algorithm": algorithm,
      "target": target,
      "seed": seed,
      **means(metrics),
      "entropy_end": float(np.mean(entropy)),
      "arch": arch.round(4).tolist(),
      "derived": self._judge(derive(arch, net.valid, limits), target),
      "images_seen": settings.images_seen(algorithm),
      "seconds": time.perf_counter() - started,
    }
    probs = np.asarray(gates.probabilities(found.arch, net.valid), np.float64)
    uniform = net.valid / net.valid.sum(axis=1, keepdims=True)
    weights = training.variables_of(found)
    for name, of in (("second_look", probs), ("of_uniform", uniform)):
      entry[name] = self._second_look(weights, of, seed, target, limits)
    entry["seconds_with_second_looks"] = time.perf_counter() - started
    self._keep("searches.jsonl", entry)

  def _second_look(self, variables, probs, seed, target, limits) -> dict:
    """What the model of measured paths gives, and the best measured one."""
    count, valid = self.arguments.second_look, self.net.valid
    rng = np.random.default_rng(seed)
    paths = draw_near(rng, probs, self.net.table, NEAR * target, target, count)
    # As many as are compiled for.
    filled = paths[np.arange(count) % len(paths)]
    score = self.net.score(variables, filled, *self._size)[: len(paths)]
    values = fit_additive(paths, score, valid, RIDGE)
    judge = functools.partial(self._judge, target=target)
    known = self.table.accuracy[self.table.rows(paths)]
    return {
      "paths": len(paths),
      **judge(derive(values, valid, limits)),
      **ranks(score, known),
      "best_measured": judge(paths[score.argmax()]),
      "mean_regret_drawn": np.mean([judge(path)["regret"] for path in paths]),
    }

  def _judge(self, path, target: float) -> dict:
    return self.table.judge(path, target * training.MACS)

  def _keep(self, name: str, entry: dict) -> None:
    """Adds a line to a journal."""
    with (self.arguments.out / name).open("a", encoding="utf-8") as file:
      file.write(json.dumps(entry, default=float) + "\n")


def settings_of(arguments, images: int) -> training.Settings:
  """The settings, with what the command line changes; epochs as steps."""
  base = WHOLE if arguments.whole else SMALL
  changes = dict(pair.split("=") for pair in arguments.set)
  types = {
    f.name: type(getattr(base, f.name)) for f in dataclasses.fields(base)
  }
  base = dataclasses.replace(
    base, **{name: types[name](value) for name, value in changes.items()}
  )
  epoch = images // base.batch
  looks = arguments.looks
  per_look = max(1, round(arguments.warmup_epochs * epoch / looks))
  return dataclasses.replace(
    base,
    warmup_steps=per_look * looks,
    steps=max(base.every, round(arguments.epochs * epoch)),
  )


def ranks(predicted, known) -> dict:
  """How well predicted accuracies rank networks."""
  return {
    "tau": scipy.stats.kendalltau(predicted, known).statistic,
    "rho": scipy.stats.spearmanr(predicted, known).statistic,
  }


def means(metrics) -> dict:
  """Metrics as numbers."""
  return {
    name: round(float(mean.total / mean.count), 4)
    for name, mean in jax.device_get(metrics).items()
    if mean.count
  }


def save(path: pathlib.Path, variables) -> None:
  """Writes the leaves of variables."""
  leaves = jax.tree.leaves(variables)
  named = {f"leaf{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
  np.savez_compressed(path, **named)


def restore(path: pathlib.Path, like: dict) -> dict:
  """Reads what `save` wrote, for variables of the same structure."""
  leaves, structure = jax.tree.flatten(like)
  with np.load(path) as file:
    read = [jnp.asarray(file[f"leaf{i}"]) for i in range(len(leaves))]
  return structure.unflatten(read)


def read_journal(path: pathlib.Path) -> list[dict]:
  """The lines of a journal; none where there is no file."""
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines()]


def summary(searches: list[dict]) -> str:
  """A line for each search and each way to derive."""
  lines = [
    "algorithm target seed   way          arch      accuracy rank regret"
  ]
  for entry in searches:
    for way in ("derived", "second_look", "of_uniform"):
      found = entry[way]
      lines.append(
        f"{entry['algorithm']:9s} {entry['target']:6g} {entry['seed']:4d}   "
        f"{way:12s} {found['arch']} {found['accuracy']:7.2f} "
        f"{100 * found['rank'] / found['of']:5.1f}% {found['regret']:5.2f}"
      )
  return "\n".join(lines)


def parse() -> argparse.Namespace:
  """The command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--data", type=pathlib.Path, default=DATA)
  parser.add_argument("--whole", action="store_true", help="all of CIFAR-10")
  parser.add_argument(
    "--per-class", type=int, default=1000, help="images of each class"
  )
  parser.add_argument("--seeds", type=int, nargs="+", default=[0])
  parser.add_argument("--algorithms", nargs="*", default=training.ALGORITHMS)
  parser.add_argument("--targets", type=float, nargs="+", default=TARGETS)
  parser.add_argument("--warmup-epochs", type=float, default=9.0)
  parser.add_argument("--epochs", type=float, default=1.7)
  parser.add_argument("--looks", type=int, default=4)
  parser.add_argument("--second-look", type=int, default=200, help="paths")
  parser.add_argument("--score-images", type=int, default=1000)
  parser.add_argument("--score-batch", type=int, default=500)
  parser.add_argument(
    "--set", nargs="*", default=[], metavar="FIELD=VALUE", help="a setting"
  )
  return parser.parse_args()


def main() -> None:
  """Trains supernets, searches from each, and writes what was found."""
  arguments = parse()
  out = arguments.out
  out.mkdir(parents=True, exist_ok=True)
  experiment = Experiment(arguments)
  done = {
    (entry["seed"], entry["algorithm"], entry["target"])
    for entry in read_journal(out / "searches.jsonl")
  }
  for seed in arguments.seeds:
    variables = experiment.supernet(seed)
    todo = itertools.product(arguments.algorithms, arguments.targets)
    for algorithm, target in todo:
      if (seed, algorithm, target) not in done:
        experiment.search(variables, seed, algorithm, target)
  searches = read_journal(out / "searches.jsonl")
  supernets = read_journal(out / "supernets.jsonl")
  everything = {"supernets": supernets, "searches": searches}
  path = out / "nas_bench_macro.json"
  path.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
  draw(experiment.table, searches, path.with_suffix(".png"))
  print(summary(searches))


if __name__ == "__main__":
  main()
