"""The cheapest network of a quality, against all networks of a small space."""

import itertools

import numpy as np
import pytest

from experiments.macro.cheapest import cheapest, costs_of, quality
from proxyless_jax.hardware import cost_table
from tests.spaces import small_space

KINDS = ("macs", "parameters", "memory")


@pytest.fixture(scope="module")
def space():
  return small_space(widths=(8, 12), depths=(2, 2), strides=(1, 2))


@pytest.fixture(scope="module")
def tables(space):
  return {kind: cost_table(kind, space) for kind in KINDS}


@pytest.fixture(scope="module")
def paths(space):
  return np.array(
    list(itertools.product(*(range(len(e.ops)) for e in space.edges)))
  )


@pytest.mark.parametrize("kind", KINDS)
def test_costs_of_paths_are_those_of_networks(space, tables, paths, kind):
  costs = costs_of(tables[kind], paths)
  for row in (0, len(paths) // 2, len(paths) - 1):
    network = space.choose(paths[row].tolist())
    assert costs[row] == pytest.approx(tables[kind].exact(network))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_against_enumeration(tables, paths, kind, seed):
  valid = tables["macs"].valid
  v = np.where(valid, np.random.default_rng(seed).normal(size=valid.shape), 0.0)
  qualities = np.array([quality(v, path) for path in paths])
  level = np.quantile(qualities, 0.7)
  keys = [costs_of(tables[k], paths) for k in (kind, "macs")]
  rows = np.flatnonzero(qualities >= level)
  best = min(
    rows, key=lambda row: (*(key[row] for key in keys), -qualities[row])
  )
  found = cheapest(v, valid, level, [tables[kind], tables["macs"]])
  np.testing.assert_array_equal(found, paths[best])


def test_a_level_that_no_path_reaches(tables):
  valid = tables["macs"].valid
  with pytest.raises(ValueError, match="level = 1: expected at most 0"):
    cheapest(np.zeros(valid.shape), valid, 1.0, [tables["macs"]])
