"""Does the search find good networks? Looked up, not trained: NAS-Bench-Macro.

    python -m experiments.nas_bench_macro --out DIR [--whole] [--seeds 0 1 2]

`supernet` trains the weights alone, by fair paths, and asks how well the
supernet's accuracy (inherited weights, statistics of the batch) ranks the
networks of the table: Kendall's tau and Spearman's rho as it trains, and at the
end the accuracy of every network. `search` goes on from such supernets by
gradient (`full`, `two`) and by REINFORCE for each target. What is done is
journaled in DIR, and not done again. `--whole` takes all of CIFAR-10 and a
GPU's batch; without it a part that two cores can bear.
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
from proxyless_jax.search import gates
from proxyless_jax.search.derive import Constraint, derive
from proxyless_jax.search.second_look import draw_near, fit_additive

DATA = pathlib.Path(__file__).parents[2] / "shared" / "data"
TABLE, IMAGES = "nas_bench_macro_cifar10.csv", "cifar10_jpeg.npz"
TARGETS = (40.0, 60.0, 80.0)
NEAR, RIDGE = 0.75, 1.0  # Of the second look: least part of the target.
RANKED = 200  # Networks whose ranks are compared as a supernet trains.
SMALL = training.Settings(batch=64, ramp_steps=50)
WHOLE = training.Settings(batch=256, dtype="bfloat16")


def parts(arguments):
  """The parts of the training images for weights and architecture."""
  per_class = None if arguments.whole else arguments.per_class
  train, _ = cifar10.load(arguments.data / IMAGES, per_class)
  return cifar10.split(train, len(train.label) // 10, seed=0)


def settings_of(arguments, images: int) -> training.Settings:
  """The settings, with what the command line changes; epochs as steps."""
  base = WHOLE if arguments.whole else SMALL
  changes = dict(pair.split("=") for pair in arguments.set)
  epochs = {
    name: float(changes.pop(name, default))
    for name, default in (("warmup_epochs", 17.0), ("epochs", 4.0))
  }
  types = {
    f.name: type(getattr(base, f.name)) for f in dataclasses.fields(base)
  }
  base = dataclasses.replace(
    base, **{name: types[name](value) for name, value in changes.items()}
  )
  per_look = round(
    epochs["warmup_epochs"] * (images // base.batch) / arguments.looks
  )
  return dataclasses.replace(
    base,
    warmup_steps=per_look * arguments.looks,
    steps=round(epochs["epochs"] * (images // base.batch)),
  )


def ranks(predicted, table, rows) -> dict:
  """How well predicted accuracies rank networks of the table."""
  known = table.accuracy[rows]
  return {
    "tau": float(scipy.stats.kendalltau(predicted, known).statistic),
    "rho": float(scipy.stats.spearmanr(predicted, known).statistic),
  }


def means(metrics) -> dict:
  """Metrics as numbers."""
  return {
    name: round(float(mean.total / mean.count), 4)
    for name, mean in jax.device_get(metrics).items()
    if mean.count
  }


def train_supernet(net, settings, table, arguments, seed: int):
  """The state after the warm-up, and the record of it."""
  started = time.perf_counter()
  rows = np.random.default_rng(0).choice(len(table.paths), RANKED, False)
  state, record = net.init(seed), []
  for _ in range(arguments.looks):
    state, metrics = net.warm_up(
      state, settings.warmup_steps // arguments.looks
    )
    entry = {"step": int(state.step), **means(metrics)}
    entry["seconds"] = time.perf_counter() - started
    score = net.score(
      state, table.paths[rows], arguments.score_images, arguments.score_batch
    )
    entry |= {**ranks(score, table, rows), "mean": float(score.mean())}
    entry["seconds_with_look"] = time.perf_counter() - started
    print(json.dumps(entry), flush=True)
    record.append(entry)
  return state, record


def score_many(net, state, table, arguments) -> dict:
  """The supernet's accuracy of every so many networks of the table."""
  started = time.perf_counter()
  rows = np.arange(len(table.paths))[:: arguments.every_network]
  score = net.score(
    state, table.paths[rows], arguments.score_images, arguments.score_batch
  )
  return {
    "every": arguments.every_network,
    "images": arguments.score_images,
    "seconds": time.perf_counter() - started,
    **ranks(score, table, rows),
    "score": score.round(3).tolist(),
  }


def save_weights(path: pathlib.Path, state) -> None:
  """Half the digits of the weights: for looking at a supernet elsewhere."""
  leaves = jax.tree.leaves((state.params, state.batch_stats))
  named = {f"leaf{i}": np.asarray(a, np.float16) for i, a in enumerate(leaves)}
  np.savez_compressed(path, **named)


def searches(net, settings, table, state, seed: int, arguments) -> None:
  """Goes on from a supernet, once for each algorithm and target."""
  for algorithm, target in itertools.product(
    arguments.algorithms, arguments.targets
  ):
    started = time.perf_counter()
    rounds = settings.steps // settings.every
    found, metrics = net.search(state, target, rounds, algorithm)
    entry = {
      "algorithm": algorithm,
      "target": target,
      "seed": seed,
      "seconds": time.perf_counter() - started,
      **means(metrics),
      "arch": np.asarray(found.arch).round(4).tolist(),
      "entropy_end": float(
        np.mean(gates.entropy(found.arch, jnp.asarray(net.mask)))
      ),
    }
    limits = [Constraint(net.table, -math.inf, target)]
    path = derive(np.asarray(found.arch), net.mask, limits)
    entry["derived"] = table.judge(path, target * training.MACS)
    entry |= second_look(net, table, found, target, seed, limits, arguments)
    entry["seconds_with_second_look"] = time.perf_counter() - started
    keep(arguments, "searches.jsonl", entry)


def second_look(net, table, found, target, seed, limits, arguments) -> dict:
  """What paths near the target, and a model of them, give."""
  rng = np.random.default_rng(seed)
  probs = np.asarray(gates.probabilities(found.arch, net.mask), np.float64)
  uniform = net.mask / net.mask.sum(axis=1, keepdims=True)
  entry = {}
  for name, from_ in (("second_look", probs), ("of_uniform", uniform)):
    paths = draw_near(
      rng, from_, net.table, NEAR * target, target, arguments.second_look
    )
    size = arguments.score_images, arguments.score_batch
    score = net.score(found, _padded(paths, arguments.second_look), *size)
    score = score[: len(paths)]
    values = fit_additive(paths, score, net.mask, RIDGE)
    best = derive(values, net.mask, limits)
    judge = functools.partial(table.judge, target=target * training.MACS)
    entry[name] = {
      "paths": len(paths),
      **judge(best),
      **ranks(score, table, table.rows(paths)),
      "best_measured": judge(paths[score.argmax()]),
      "mean_regret_drawn": float(
        np.mean([judge(path)["regret"] for path in paths])
      ),
    }
  return entry


def _padded(paths: np.ndarray, count: int) -> np.ndarray:
  """As many rows as are compiled for."""
  return np.concatenate([paths, np.repeat(paths[:1], count - len(paths), 0)])


def keep(arguments, name: str, entry: dict) -> None:
  """Adds a line to the journal, and shows it."""
  line = json.dumps(entry)
  with (arguments.out / name).open("a", encoding="utf-8") as file:
    file.write(line + "\n")
  print(line if len(line) < 3000 else line[:3000] + " ...", flush=True)


def run(arguments) -> None:
  """Supernets, then the searches that go on from each."""
  table = benchmark.load(arguments.data / TABLE)
  images = parts(arguments)
  settings = settings_of(arguments, len(images[0].label))
  net = training.Supernet(settings, *images)
  for seed in arguments.seeds:
    state, record = train_supernet(net, settings, table, arguments, seed)
    keep(
      arguments,
      "supernets.jsonl",
      {
        "name": arguments.name,
        "seed": seed,
        "device": jax.devices()[0].device_kind,
        "settings": dataclasses.asdict(settings),
        "images": [len(part.label) for part in images],
        "record": record,
        "networks": score_many(net, state, table, arguments),
      },
    )
    save_weights(arguments.out / f"supernet-{arguments.name}{seed}.npz", state)
    searches(net, settings, table, state, seed, arguments)


def main() -> None:
  """Parses the command line and runs one part."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--data", type=pathlib.Path, default=DATA)
  parser.add_argument("--whole", action="store_true", help="all of CIFAR-10")
  parser.add_argument("--per-class", type=int, default=1000)
  parser.add_argument("--seeds", type=int, nargs="+", default=[0])
  parser.add_argument("--name", default="", help="of the supernets' files")
  parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE")
  parser.add_argument("--looks", type=int, default=6)
  parser.add_argument("--score-images", type=int, default=1000)
  parser.add_argument("--score-batch", type=int, default=500)
  parser.add_argument("--every-network", type=int, default=1)
  parser.add_argument("--second-look", type=int, default=200)
  parser.add_argument("--algorithms", nargs="*", default=training.ALGORITHMS)
  parser.add_argument(
    "--targets", type=float, nargs="+", default=TARGETS, help="M MACs"
  )
  arguments = parser.parse_args()
  arguments.out.mkdir(parents=True, exist_ok=True)
  run(arguments)


if __name__ == "__main__":
  main()
