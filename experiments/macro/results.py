"""What searches of NAS-Bench-Macro found, beside networks that none searched.

Ranks count from 1, the best of the networks within a target; a search is in the
best x % if its rank is at most that part of their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.macro.benchmark import CANDIDATES, DEPTHS, Benchmark
from experiments.macro.training import MACS
from proxyless_jax.hardware import CostTable
from proxyless_jax.nas.additive import fit_additive
from proxyless_jax.nas.derive import Constraint, derive

OF_TRAINING = 50 * 50_000  # Images that the table's trainings see.
RESAMPLINGS = 100
# Blocks of stride 2, whose identity is a 1x1 convolution.
FIRST = np.cumsum((0, *DEPTHS[:-1]))


def summary(searches: Sequence[Mapping]) -> str:
  """A line for each search, by algorithm."""
  lines = ["algorithm        target seed   found     accuracy   rank regret"]
  for entry in sorted(searches, key=lambda e: (e["algorithm"], e["target"])):
    found = entry["found"]
    lines.append(
      f"{entry['algorithm']:16s} {entry['target']:6g} {entry['seed']:4d}   "
      f"{found['arch']} {found['accuracy']:9.2f} "
      f"{100 * found['rank'] / found['of']:5.1f}% {found['regret']:6.2f}"
    )
  return "\n".join(lines)


def totals(searches: Sequence[Mapping]) -> dict[str, dict]:
  """How many searches of each algorithm were good, and their median regret.

  `of_one_training` is their median number of images, relative to those of one
  of the table's trainings: how many random networks the same images train.
  `entropy_end`, of those that train alpha, is the least and the greatest part
  of the gates' first entropy that they ended with.
  """
  found: dict[str, dict] = {}
  for algorithm in sorted({entry["algorithm"] for entry in searches}):
    own = [entry for entry in searches if entry["algorithm"] == algorithm]
    images = [sum(entry["images_seen"].values()) for entry in own]
    found[algorithm] = {
      "searches": len(own),
      **quality([entry["found"] for entry in own]),
      "of_one_training": float(np.median(images)) / OF_TRAINING,
    }
    entropies = [e["entropy_end"] for e in own if "entropy_end" in e]
    if entropies:
      start = math.log(CANDIDATES)
      ends = [min(entropies) / start, max(entropies) / start]
      found[algorithm]["entropy_end"] = ends
  return found


def quality(found: Sequence[Mapping]) -> dict[str, float]:
  """How good some networks are, as `Benchmark.judge` says."""
  return {
    "in_best_5_percent": sum(e["rank"] <= 0.05 * e["of"] for e in found),
    "in_best_1_percent": sum(e["rank"] <= 0.01 * e["of"] for e in found),
    "median_regret": float(np.median([e["regret"] for e in found])),
  }


def of_random(table: Benchmark, targets: Sequence[float]) -> list[dict]:
  """What a network is worth that nobody searched, for each target.

  Of 90 to 100 % of the target: `all`, and those `without_identity` in a block
  of stride 2. And `rule`, the network of the most MBConv blocks within the
  target, of those the one of the most MACs (the worst of several).
  """
  found = []
  for target in targets:
    near = (table.macs <= target * MACS) & (table.macs >= 0.9 * target * MACS)
    kept = near & np.all(table.paths[:, FIRST] != 0, axis=1)
    rule = [table.judge(path, target * MACS) for path in by_rule(table, target)]
    found.append(
      {
        "target": target,
        "all": _random(table, near, target),
        "without_identity": _random(table, kept, target),
        "rule": max(rule, key=lambda one: one["rank"]),
      }
    )
  return found


def _random(table: Benchmark, drawn: np.ndarray, target: float) -> dict:
  judged = [table.judge(p, target * MACS) for p in table.paths[drawn]]
  rank = float(np.median([one["rank"] / one["of"] for one in judged]))
  return {"networks": len(judged), "median_rank": rank, **quality(judged)}


def by_rule(table: Benchmark, target: float) -> np.ndarray:
  """Paths i32[n, 8] of the most blocks within a target, then the most MACs."""
  within = table.macs <= target * MACS
  blocks = np.where(within, np.sum(table.paths != 0, axis=1), -1)
  most = np.where(blocks == blocks.max(), table.macs, -1)
  return table.paths[most == most.max()]


def resampled(
  table: Benchmark,
  costs: CostTable,
  valid: np.ndarray,
  supernets: Sequence[tuple[np.ndarray, np.ndarray]],
  targets: Sequence[float],
) -> dict[str, float]:
  """How good additive searches are on average over the draw of their paths.

  The paths of each supernet are resampled with replacement, `RESAMPLINGS`
  times: the supernets stay.

  Args:
    table: accuracies of all networks.
    costs: MACs in millions.
    valid: bool[e, k].
    supernets: paths i64[n, e] and losses f64[n] of each.
    targets: millions of MACs.

  Returns:
    Parts of the searches in the best 5 and 1 %, and their median regret.
  """
  found = []
  for paths, losses in supernets:
    for number in range(RESAMPLINGS):
      rng = np.random.default_rng(number)
      rows = rng.integers(len(paths), size=len(paths))
      values = fit_additive(paths[rows], -losses[rows], valid)
      for target in targets:
        limits = [Constraint(costs, -math.inf, target)]
        path = derive(values, valid, limits)
        found.append(table.judge(path, target * MACS))
  good = quality(found)
  return {
    "resamplings": RESAMPLINGS,
    "in_best_5_percent": good["in_best_5_percent"] / len(found),
    "in_best_1_percent": good["in_best_1_percent"] / len(found),
    "median_regret": good["median_regret"],
  }
