"""The space of NAS-Bench-Macro against its published table."""

import pathlib

import numpy as np
import pytest

from experiments.macro import benchmark
from proxyless_jax.hardware import cost_table

TABLE = (
  pathlib.Path(__file__).parents[3]
  / "shared"
  / "data"
  / "nas_bench_macro_cifar10.csv"
)


@pytest.fixture(scope="module")
def table():
  if not TABLE.exists():
    pytest.skip(f"{TABLE}: the table of NAS-Bench-Macro is not there")
  return benchmark.load(TABLE)


@pytest.mark.parametrize(
  ("kind", "published"), [("parameters", "parameters"), ("macs", "macs")]
)
def test_counts_of_all_networks_are_the_published(table, kind, published):
  costs = cost_table(kind, benchmark.space())
  picked = costs.costs[np.arange(benchmark.BLOCKS), table.paths].sum(axis=1)
  np.testing.assert_array_equal(costs.fixed + picked, getattr(table, published))


def test_two_rows_of_the_published_table(table):
  # From the table: arch 00000001 has 791,594 parameters, 14,115,328 MACs.
  row = table.row([0, 0, 0, 0, 0, 0, 0, 1])
  assert (table.parameters[row], table.macs[row]) == (791_594, 14_115_328)
  assert table.accuracy[row] == pytest.approx((64.34 + 64.21 + 64.12) / 3)


def test_rows_are_where_their_paths_stand(table):
  rows = np.array([0, 17, 4000, 6560])
  np.testing.assert_array_equal(table.rows(table.paths[rows]), rows)


def test_judge_by_counting(table):
  path, target = np.array([1, 2, 0, 1, 2, 1, 0, 1]), 60e6
  judged = table.judge(path, target)
  found = table.accuracy[table.row(path)]
  better = [
    a for a, m in zip(table.accuracy, table.macs) if m <= target and a > found
  ]
  assert judged["arch"] == "12012101"
  assert judged["rank"] == len(better) + 1
  assert judged["of"] == 4075
  assert judged["regret"] == pytest.approx(max(better) - found)


def test_the_front_has_nothing_that_is_beaten(table):
  front = table.front()
  for row in front[::5]:
    no_dearer = table.macs <= table.macs[row]
    assert table.accuracy[no_dearer].max() == table.accuracy[row]


def test_a_part_of_the_table_is_refused(tmp_path):
  path = tmp_path / "part.csv"
  path.write_text("arch,acc_1,acc_2,acc_3,params,flops\n00000000,1,2,3,4,5\n")
  with pytest.raises(ValueError, match="expected the 6561 networks"):
    benchmark.load(path)
