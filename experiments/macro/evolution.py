"""Evolution on a trained supernet: the usual way to derive a network from one.

Single Path One-Shot (Guo et al., ECCV 2020): a population of paths within the
target; half of each generation are mutants of the best, half their crosses.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from proxyless_jax.nas.derive import Constraint

POPULATION, PARENTS, MUTATION = 50, 10, 0.1


def evolve(
  losses: Callable[[np.ndarray], np.ndarray],
  valid: np.ndarray,
  limit: Constraint,
  evaluations: int,
  seed: int,
) -> np.ndarray:
  """The path of the least loss that was met: i64[e].

  Args:
    losses: from paths i64[n, e] to their losses f[n].
    valid: bool[e, k], which candidates exist.
    limit: limit on the cost of every path.
    evaluations: number of paths whose losses are taken.
    seed: seed of everything random.
  """
  rng = np.random.default_rng(seed)
  probs = valid / valid.sum(axis=1, keepdims=True)
  seen: dict[bytes, tuple[float, np.ndarray]] = {}

  def new(make: Callable[[], np.ndarray], count: int) -> list[np.ndarray]:
    """Different paths within the limit that were not seen."""
    found: dict[bytes, np.ndarray] = {}
    for _ in range(10_000):
      if len(found) == count:
        break
      path = make()
      name = path.tobytes()
      if name not in seen and limit.excess(path) <= 0:
        found[name] = path
    return list(found.values())

  def random() -> np.ndarray:
    return np.array([rng.choice(len(p), p=p) for p in probs])

  def mutant() -> np.ndarray:
    parent = parents[rng.integers(len(parents))]
    return np.where(rng.random(len(parent)) < MUTATION, random(), parent)

  def cross() -> np.ndarray:
    one, other = rng.integers(len(parents), size=2)
    pick = rng.random(len(valid)) < 0.5
    return np.where(pick, parents[one], parents[other])

  population = new(random, POPULATION)
  while len(seen) < evaluations:
    population = population[: evaluations - len(seen)]
    for path, loss in zip(population, losses(np.array(population))):
      seen[path.tobytes()] = float(loss), path
    best = sorted(seen.values(), key=lambda entry: entry[0])
    parents = [path for _, path in best[:PARENTS]]
    half = POPULATION // 2
    population = new(mutant, half) + new(cross, half)
    population = population or new(random, POPULATION)
    if not population:
      break  # The whole space within the limit was seen.
  return parents[0]
