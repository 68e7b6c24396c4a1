"""NAS-Bench-Macro: 6,561 networks of MBConv blocks with known accuracy.

Su et al., CVPR 2021; github.com/xiusu/NAS-Bench-Macro. Each network was trained
three times on CIFAR-10 for 50 epochs. A digit per block says what it is: 0 the
identity (at stride 2 a 1x1 convolution and batch norm, no activation), 1 an
MBConv of expansion 3 and kernel 3, 2 one of expansion 6 and kernel 5.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import os

import numpy as np

import proxyless_jax as pj
from proxyless_jax.space.networks.chain import ChainBuilder
from proxyless_jax.space.ops.mobile import Classifier, ConvBN, MBConv, Zero

WIDTHS, DEPTHS = (64, 128, 256), (2, 3, 3)
BLOCKS, CANDIDATES = sum(DEPTHS), 3
EPSILON = 1e-5  # Of batch norm there.


@functools.cache
def space() -> pj.Chain:
  """The published space; candidate `i` of an edge is the digit `i`."""
  chain = ChainBuilder(3, 32)
  stem = chain.add("stem", (ConvBN(3, "relu", EPSILON),), 32)
  blocks = tuple(
    MBConv(expand, kernel, activation="relu", epsilon=EPSILON)
    for expand, kernel in ((3, 3), (6, 5))
  )
  edges = []
  for width, depth in zip(WIDTHS, DEPTHS):
    for i in range(depth):
      name = f"block{len(edges) + 1}"
      if i == 0:
        ops = (ConvBN(1, "linear", EPSILON), *blocks)
        edges.append(chain.add(name, ops, width, stride=2))
      else:
        ops = (Zero(), *blocks)
        edges.append(chain.add(name, ops, width, shortcut=True))
  head = chain.add("head", (ConvBN(1, "relu", EPSILON),), 1280)
  classifier = chain.add("classifier", (Classifier(),), 10)
  return pj.Chain((stem,), tuple(edges), (head, classifier))


@dataclasses.dataclass(frozen=True, eq=False)
class Benchmark:
  """The table.

  Attributes:
    paths: i32[6561, 8], the digits of each network.
    accuracy: f64[6561], mean test accuracy of its trainings, in percent.
    deviation: f64[6561], standard deviation between its trainings, in points.
    parameters, macs: i64[6561].
  """

  paths: np.ndarray
  accuracy: np.ndarray
  deviation: np.ndarray
  parameters: np.ndarray
  macs: np.ndarray

  def row(self, path) -> int:
    """Where a network stands: i32[8] -> its row."""
    return int(self.rows(np.asarray(path)))

  def rows(self, paths: np.ndarray) -> np.ndarray:
    """Where networks stand: i32[..., 8] -> i64[...]."""
    powers = CANDIDATES ** np.arange(BLOCKS)[::-1]
    return self._order[paths @ powers]

  @functools.cached_property
  def _order(self) -> np.ndarray:
    powers = CANDIDATES ** np.arange(BLOCKS)[::-1]
    order = np.empty(len(self.paths), int)
    order[self.paths @ powers] = np.arange(len(self.paths))
    return order

  def judge(self, path, target: float) -> dict:
    """What the table says of a found network.

    Args:
      path: i32[8].
      target: most MACs that the search allowed.

    Returns:
      Its digits, accuracy and MACs; its rank (1: the best) among the networks
      within the target and among those of no more MACs than its own, with
      their numbers; its regret, in points below the best within the target.
    """
    row = self.row(path)
    found, cost = self.accuracy[row], self.macs[row]
    within = self.accuracy[self.macs <= target]
    no_dearer = self.accuracy[self.macs <= cost]
    return {
      "arch": "".join(map(str, path)),
      "accuracy": float(found),
      "macs": int(cost),
      "rank": int(np.sum(within > found)) + 1,
      "of": len(within),
      "rank_of_its_cost": int(np.sum(no_dearer > found)) + 1,
      "of_its_cost": len(no_dearer),
      "regret": float(within.max() - found),
    }

  def front(self) -> np.ndarray:
    """Rows of the networks that none of no more MACs beats, by MACs."""
    order = np.lexsort((-self.accuracy, self.macs))
    best = np.maximum.accumulate(self.accuracy[order])
    first = np.append(True, best[1:] > best[:-1])
    return order[first]


def load(path: str | os.PathLike) -> Benchmark:
  """Reads the table, a CSV of `arch, acc_1, acc_2, acc_3, params, flops`.

  Raises:
    ValueError: it is not the whole table.
  """
  with open(path, newline="", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
  if len(rows) != CANDIDATES**BLOCKS:
    raise ValueError(
      f"{path}: expected the {CANDIDATES**BLOCKS} networks of NAS-Bench-Macro, "
      f"got {len(rows)} rows"
    )
  trainings = [[float(row[f"acc_{i}"]) for i in (1, 2, 3)] for row in rows]
  return Benchmark(
    paths=np.array([[int(c) for c in row["arch"]] for row in rows], np.int32),
    accuracy=np.mean(trainings, axis=1),
    deviation=np.std(trainings, axis=1, ddof=1),
    parameters=np.array([int(row["params"]) for row in rows]),
    macs=np.array([int(row["flops"]) for row in rows]),
  )
