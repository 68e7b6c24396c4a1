"""Baselines of a search: random paths within the targets, and evolution.

Evolution takes the place of the gates: on a supernet whose weights are trained,
paths within the targets are evaluated, generation after generation, and the
best one is the result (Single Path One-Shot, Guo et al., ECCV 2020). Half of a
generation are mutants of the best paths so far, half are crosses of two.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from proxyless_jax.nas.derive import ROUNDING, Constraint, derive, misses

# Paths of a generation; the best so far, of which the next ones are made; the
# chance of each candidate of a mutant to be drawn anew.
GENERATION, PARENTS, MUTATION = 50, 10, 0.1
# Draws before it is taken that hardly any path is left.
TRIES = 200
# Draws in a row without a new path, before it is taken that there is none.
IDLE = 50
# Paths of a space in which they are counted one by one.
LISTED = 5000


def random_path(
  rng: np.random.Generator,
  valid: np.ndarray,
  constraints: Sequence[Constraint] = (),
) -> np.ndarray:
  """A random path that meets all constraints, as `derive` does: i64[e].

  Uniform over those that do, where uniform draws meet them often enough. Where
  `TRIES` of them do not, it is the path of the largest sum of Gumbel noise that
  does: any path that meets them may be it, but not all are equally likely.

  Args:
    rng: source of the draws.
    valid: bool[e, k], which candidates exist.
    constraints: constraints on the cost of the path.
  """
  for _ in range(TRIES):
    path = _uniform(rng, valid)
    if misses(constraints, path) <= ROUNDING:
      return path
  return derive(rng.gumbel(size=valid.shape), valid, constraints)


def random_paths(
  rng: np.random.Generator,
  valid: np.ndarray,
  constraints: Sequence[Constraint],
  count: int,
  other_than: Sequence[np.ndarray] = (),
) -> np.ndarray:
  """Different paths, each drawn by `random_path`: i64[n, e].

  n is `count`, or less where `IDLE` draws in a row give no new one.

  Args:
    rng: source of the draws.
    valid: bool[e, k], which candidates exist.
    constraints: constraints on the cost of every path.
    count: number of paths.
    other_than: paths i64[e] that are not drawn.
  """
  seen = {np.asarray(path, np.int64).tobytes() for path in other_than}
  drawn: list[np.ndarray] = []
  idle = 0
  while len(drawn) < count and idle < IDLE:
    path = random_path(rng, valid, constraints).astype(np.int64)
    idle += 1
    if path.tobytes() not in seen:
      seen.add(path.tobytes())
      drawn.append(path)
      idle = 0
  return np.array(drawn, np.int64).reshape(-1, len(valid))


def paths_within(
  valid: np.ndarray, constraints: Sequence[Constraint], most: int
) -> int:
  """How many paths meet all constraints, up to `most`.

  They are counted where the space has `LISTED` paths or less; of a larger one,
  the answer is `most`.

  Args:
    valid: bool[e, k], which candidates exist.
    constraints: constraints on the cost of a path.
    most: largest answer.
  """
  candidates = [np.flatnonzero(row) for row in valid]
  if math.prod(map(len, candidates)) > LISTED:
    return most
  every = map(np.array, itertools.product(*candidates))
  within = (misses(constraints, path) <= ROUNDING for path in every)
  return min(most, sum(within))


def next_generation(
  rng: np.random.Generator,
  paths: np.ndarray,
  losses: np.ndarray,
  valid: np.ndarray,
  constraints: Sequence[Constraint],
  size: int,
) -> np.ndarray:
  """The paths that evolution evaluates next: i64[size, e].

  No path comes twice, while there are others that meet the constraints.

  Args:
    rng: source of the draws.
    paths: i64[n, e], all paths so far; none for the first generation.
    losses: f[n], their losses.
    valid: bool[e, k], which candidates exist.
    constraints: constraints on the cost of every path.
    size: number of paths.
  """
  parents = np.asarray(paths)[np.argsort(losses, kind="stable")[:PARENTS]]
  seen = {path.tobytes() for path in np.asarray(paths, np.int64)}

  def random() -> np.ndarray:
    return random_path(rng, valid, constraints)

  def mutant() -> np.ndarray:
    parent = parents[rng.integers(len(parents))]
    return np.where(
      rng.random(len(parent)) < MUTATION, _uniform(rng, valid), parent
    )

  def cross() -> np.ndarray:
    one, other = parents[rng.integers(len(parents), size=2)]
    return np.where(rng.random(len(one)) < 0.5, one, other)

  makers = [mutant, cross] if len(parents) else [random]
  return np.array(
    [
      _unseen(makers[i % len(makers)], random, seen, constraints)
      for i in range(size)
    ]
  )


def _unseen(
  make: Callable[[], np.ndarray],
  random: Callable[[], np.ndarray],
  seen: set[bytes],
  constraints: Sequence[Constraint],
) -> np.ndarray:
  """A path by `make`, or else a random one, that was not seen yet."""
  for maker in (make, random):
    for _ in range(TRIES):
      path = maker().astype(np.int64)
      known = path.tobytes() in seen
      if not known and misses(constraints, path) <= ROUNDING:
        seen.add(path.tobytes())
        return path
  return path  # All that meet the constraints were seen, or nearly so.


def _uniform(rng: np.random.Generator, valid: np.ndarray) -> np.ndarray:
  """A path drawn uniformly: i64[e]."""
  noise = np.where(valid, rng.random(valid.shape), -1.0)
  return noise.argmax(axis=1)
