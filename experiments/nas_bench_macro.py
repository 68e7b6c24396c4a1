"""Does the search find good networks? Looked up, not trained: NAS-Bench-Macro.

    python -m experiments.nas_bench_macro --out DIR [--whole] [--seeds 0 1 2]

First a supernet for each seed: weights alone, by several paths a batch, for no
target in particular. As it trains, the accuracies and losses of paths spread
over the space (inherited weights, statistics of the batch) are compared with
the table: Kendall's tau and Spearman's rho. Then, from its weights, for each
target in millions of MACs:

    additive   the additive model of the supernet (`nas.additive`): the losses
               of the same paths for all targets, and no other step
    pairwise   a model with a term for each pair of candidates, of the same
               losses; its best network by trying all within the target
    lowest     of these paths, the one within the target of the lowest loss
    evolution  evolution on the supernet with as many evaluations
    full, two, reinforce   a search; the most probable path within the target
    full+additive, ...     the same, then the additive model of its supernet

What each gives is looked up in the table.

`--whole` is for a GPU; without it, batches and lengths that two cores can bear.
DIR keeps weights, their training midway, and a line for each search: what is
there is not done again. At its end `DIR/nas_bench_macro.json` has everything,
and `DIR/nas_bench_macro.png` shows the found networks among all others.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import pathlib
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from experiments import cifar10
from experiments.macro import benchmark, pairwise, results, training
from experiments.macro.command import (
  BY_LOSSES,
  PARTS,
  TARGETS,
  parse,
  parser,
  settings_of,
)
from experiments.macro.figure import draw
from experiments.output import write_json
from proxyless_jax.nas import gates
from proxyless_jax.nas.additive import fit_additive, spread_paths
from proxyless_jax.nas.baselines import GENERATION, next_generation
from proxyless_jax.nas.derive import Constraint, derive

# Of files of variables: one more with each change of the order in banks' rows.
FORMAT = 2
TABLE, IMAGES = "nas_bench_macro_cifar10.csv", "cifar10_jpeg.npz"
RANKED = 200  # Paths whose ranks are compared as a supernet trains.


class Experiment:
  """Everything that supernets and searches share."""

  def __init__(self, arguments: argparse.Namespace):
    self.arguments = arguments
    self.table = benchmark.load(arguments.data / TABLE)
    self._check_targets()
    train, _ = cifar10.load(arguments.data / IMAGES, arguments.per_class)
    images = cifar10.split(train, len(train.label) // 10, seed=0)
    self.sizes = [len(part.label) for part in images]
    self.settings = settings_of(arguments, self.sizes[0])
    self._claim()
    self.net = training.Supernet(self.settings, *images)

  def _check_targets(self) -> None:
    least = self.table.macs.min() / training.MACS
    for target in self.arguments.targets:
      if target < least:
        raise ValueError(
          f"--targets {target:g}: expected millions of MACs, at least those of "
          f"the cheapest network, {least:.1f}"
        )

  def _claim(self) -> None:
    """Keeps the settings in the folder, or compares them with those there."""
    names = "per_class", "paths", "score_images", "score_batch"
    own = {name: getattr(self.arguments, name) for name in names}
    own = {**own, "settings": dataclasses.asdict(self.settings)}
    path = self.arguments.out / "settings.json"
    if not path.exists():
      write_json(path, own)
    kept = json.loads(path.read_text(encoding="utf-8"))
    if kept != own:
      raise ValueError(
        f"{path} has the settings {kept}: expected {own}; use another folder"
      )

  def supernet(self, seed: int) -> tuple[dict, np.ndarray, np.ndarray]:
    """A supernet: trained and scored, or as it was kept.

    Returns:
      Its variables, and paths with their losses.
    """
    out, arguments = self.arguments.out, self.arguments
    weights, scores = out / f"supernet-{seed}.npz", out / f"paths-{seed}.npz"
    state = self.net.init(seed)
    rng = np.random.default_rng(seed)
    paths = spread_paths(rng, self.net.valid, arguments.paths)
    if not scores.exists():
      state, record = self._warm_up(state, seed, paths[:RANKED])
      variables = training.variables_of(state)
      started = time.perf_counter()
      top1, loss = self._score(variables, paths)
      seconds = time.perf_counter() - started
      self._keep(
        "supernets.jsonl",
        {
          "seed": seed,
          "device": jax.devices()[0].device_kind,
          "jax": jax.__version__,
          "settings": dataclasses.asdict(self.settings),
          "images": self.sizes,
          "record": record,
          "seconds_of_paths": seconds,
          "paths": self.compare(paths, top1, loss),
        },
      )
      save(weights, variables)
      np.savez(scores, paths=paths, top1=top1, loss=loss)
    kept = np.load(scores)
    variables = restore(weights, training.variables_of(state))
    return variables, kept["paths"], kept["loss"]

  def _warm_up(self, state, seed: int, paths):
    """The state after a warm-up, and what was seen on the way."""
    kept = self.arguments.out / f"warm-up-{seed}.npz"
    record: list[dict] = []
    if kept.exists():
      with np.load(kept) as file:
        record = json.loads(str(file["record"]))
      state = with_key(restore(kept, without_key(state)))
    for part in range(len(record), PARTS):
      started = time.perf_counter()
      state, metrics = self.net.warm_up(
        state, self.settings.warmup_steps // PARTS
      )
      entry = {"step": int(state.step), **means(metrics)}
      entry["seconds"] = time.perf_counter() - started
      if (part + 1) % (PARTS // self.arguments.looks) == 0 and part + 1 < PARTS:
        scores = self._score(training.variables_of(state), paths)
        entry |= self.compare(paths, *scores)
      record.append(entry)
      print(json.dumps(entry, default=float), flush=True)
      save(kept, without_key(state), record=json.dumps(record, default=float))
    kept.unlink()
    return state, record

  def _score(self, variables, paths):
    size = self.arguments.score_images, self.arguments.score_batch
    return self.net.score(variables, paths, *size)

  def compare(self, paths, top1, loss) -> dict:
    """How accuracies and losses of a supernet rank networks."""
    known = self.table.accuracy[self.table.rows(paths)]
    macs = self.table.macs[self.table.rows(paths)] / training.MACS
    near = {}
    for target in TARGETS:
      rows = (macs <= target) & (macs > 0.75 * target)
      if rows.sum() > 2:
        near[f"{0.75 * target:g} to {target:g} M MACs"] = {
          "networks": int(rows.sum()),
          **ranks(-loss[rows], known[rows]),
        }
    return {
      "networks": len(paths),
      "mean_top1": top1.mean(),
      "by_loss": ranks(-loss, known),
      "by_top1": ranks(top1, known),
      "near": near,
    }

  def search(self, of_seed, seed: int, algorithm: str, target: float) -> None:
    """Searches, and looks up what was found."""
    started = time.perf_counter()
    variables, paths, loss = of_seed
    valid = self.net.valid
    limits = [Constraint(self.net.table, -math.inf, target)]
    entry = {"algorithm": algorithm, "target": target, "seed": seed}
    if algorithm in BY_LOSSES:
      path = self._by_losses(algorithm, paths, loss, target)
    elif algorithm == "evolution":
      path = self._evolve(variables, seed, limits)
    else:
      kind, _, then = algorithm.partition("+")
      found, of_search = self._by_steps(variables, seed, kind, target)
      entry |= of_search
      path = derive(np.asarray(found.arch), valid, limits)
      if then:
        _, loss = self._score(training.variables_of(found), paths)
        path = derive(fit_additive(paths, -loss, valid), valid, limits)
    entry["found"] = self.table.judge(path, target * training.MACS)
    entry["images_seen"] = self._images(algorithm)
    entry["seconds"] = time.perf_counter() - started
    print(json.dumps(entry, default=float), flush=True)
    self._keep("searches.jsonl", entry)

  def _by_losses(self, algorithm: str, paths, loss, target: float):
    """The best path that the losses of some tell of."""
    valid = self.net.valid
    if algorithm == "additive":
      limits = [Constraint(self.net.table, -math.inf, target)]
      return derive(fit_additive(paths, -loss, valid), valid, limits)
    others, values = paths, -loss
    if algorithm == "pairwise":
      others = self.table.paths
      values = pairwise.predict(paths, -loss, others, valid.shape[1])
    macs = self.table.macs[self.table.rows(others)]
    within = macs <= target * training.MACS
    return others[np.where(within, values, -np.inf).argmax()]

  def _evolve(self, variables, seed: int, limits):
    """The best path that evolution meets on the supernet."""
    valid = self.net.valid
    paths, losses = np.zeros((0, len(valid)), np.int64), np.zeros(0)
    while len(paths) < self.arguments.paths:
      rng = np.random.default_rng([seed, len(paths)])
      new = next_generation(rng, paths, losses, valid, limits, GENERATION)
      paths = np.concatenate([paths, new])
      losses = np.append(losses, self._score(variables, new)[1])
    return paths[losses.argmin()]

  def _by_steps(self, variables, seed: int, algorithm: str, target: float):
    rounds = self.settings.steps // self.settings.every
    found, metrics = self.net.search(
      self.net.begin_search(variables, seed), target, rounds, algorithm
    )
    logits = found.arch / self.settings.temperature  # What paths are drawn by.
    entropy = gates.entropy(logits, jnp.asarray(self.net.valid))
    return found, {
      **means(metrics),
      "entropy_end": float(np.mean(entropy)),
      "arch": np.asarray(found.arch).round(4).tolist(),
    }

  def _images(self, algorithm: str) -> dict[str, int]:
    """Images times paths; a path that runs forward only counts a third."""
    kind, _, then = algorithm.partition("+")
    evaluated = self.arguments.paths * self.arguments.score_images // 3
    if kind not in training.ALGORITHMS:
      return {"warm_up": self.settings.images_warm_up, "paths": evaluated}
    seen = self.settings.images_seen(kind)
    return {**seen, "paths": evaluated} if then else seen

  def _keep(self, name: str, entry: dict) -> None:
    """Adds a line to a journal."""
    with (self.arguments.out / name).open("a", encoding="utf-8") as file:
      file.write(json.dumps(entry, default=float) + "\n")


def ranks(predicted, known) -> dict:
  """How well predictions rank networks."""
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


def save(path: pathlib.Path, variables, **more) -> None:
  """Writes the leaves of variables, in place of a file that is there."""
  leaves = jax.tree.leaves(variables)
  named = {f"leaf{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
  named["format"] = np.array(FORMAT)
  part = path.with_suffix(".part.npz")
  np.savez(part, **named, **more)
  part.replace(path)


def restore(path: pathlib.Path, like: dict) -> dict:
  """Reads what `save` wrote, for variables of the same structure."""
  leaves, structure = jax.tree.flatten(like)
  with np.load(path) as file:
    found = int(file["format"]) if "format" in file else 1
    if found != FORMAT:
      raise ValueError(
        f"{path}: has format {found}, expected {FORMAT}: rows of banks had "
        "another order; use another --out, or the version that wrote it"
      )
    read = [jnp.asarray(file[f"leaf{i}"]) for i in range(len(leaves))]
  return structure.unflatten(read)


def read_journal(path: pathlib.Path) -> list[dict]:
  """The lines of a journal; none where there is no file."""
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines()]


def without_key(state):
  """A state whose PRNG key is an array of numbers."""
  return state.replace(key=jax.random.key_data(state.key))


def with_key(state):
  """The state again."""
  return state.replace(key=jax.random.wrap_key_data(state.key))


def main(argv: Sequence[str] | None = None) -> dict:
  """Trains supernets, searches from each, and writes what was found."""
  arguments = parse(parser(__doc__), argv)
  out = arguments.out
  out.mkdir(parents=True, exist_ok=True)
  experiment = Experiment(arguments)
  done = {
    (entry["seed"], entry["algorithm"], entry["target"])
    for entry in read_journal(out / "searches.jsonl")
  }
  for seed in arguments.seeds:
    of_seed = experiment.supernet(seed)
    todo = itertools.product(arguments.algorithms, arguments.targets)
    for algorithm, target in todo:
      if (seed, algorithm, target) not in done:
        experiment.search(of_seed, seed, algorithm, target)
  found = collect(experiment)
  path = out / "nas_bench_macro.json"
  write_json(path, found)
  draw(experiment.table, found["searches"], path.with_suffix(".png"))
  print(results.summary(found["searches"]))
  print(json.dumps(found["totals"], indent=1))
  return found


def collect(experiment: Experiment) -> dict:
  """Everything that is in the folder of an experiment."""
  out, net = experiment.arguments.out, experiment.net
  supernets = read_journal(out / "supernets.jsonl")
  for entry in supernets:
    training_s = sum(part["seconds"] for part in entry["record"])
    entry["seconds"] = training_s + entry["seconds_of_paths"]
  searches = read_journal(out / "searches.jsonl")
  kept = [np.load(out / f"paths-{e['seed']}.npz") for e in supernets]
  losses = [(one["paths"], one["loss"]) for one in kept]
  table = experiment.table
  return {
    "totals": results.totals(searches),
    "resampled": results.resampled(
      table, net.table, net.valid, losses, TARGETS
    ),
    "random": results.of_random(table, TARGETS),
    "supernets": supernets,
    "searches": searches,
  }


if __name__ == "__main__":
  main()
