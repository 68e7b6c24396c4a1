import json

from numpy.testing import assert_allclose

from experiments import scaling
from experiments.accelerators import H100

STEP = scaling.Step(
  flops=0.0, traffic=1e9, exchanged=8e6, collectives=100, of_norms=80
)


def test_an_average_step_adds_up_its_parts():
  parts = [(STEP, 1.0), (STEP, 0.5)]
  compute, transfer, norms, others = scaling.times(H100, 8, 4, parts)
  assert_allclose(compute, 1.5 * H100.compute(0.0, 4e9))
  assert_allclose(transfer, 1.5 * H100.transfer(8e6, 8))
  assert_allclose(norms, 1.5 * 80 * H100.latency(8))
  assert_allclose(others, 1.5 * 20 * H100.latency(8))


def test_weak_scaling_keeps_the_batch_of_each():
  rows = scaling.rows_of([(STEP, 1.0)], 256, strong=False)
  assert {row["batch"] for row in rows} == {256}
  assert [row["count"] for row in rows] == 2 * list(scaling.COUNTS)
  one, *others = rows[: len(scaling.COUNTS)]
  assert one["efficiency"] == 1.0
  assert_allclose(one["images_per_second"], 256 / one["step_ms"] * 1e3)
  for row in others:
    assert row["compute_ms"] == one["compute_ms"]
    assert 0.0 < row["efficiency"] < 1.0


def test_strong_scaling_stops_at_one_image_each():
  rows = scaling.rows_of([(STEP, 1.0)], 256, strong=True)
  shared = [(row["count"], row["batch"]) for row in rows]
  assert shared == 2 * [(1, 256), (8, 32), (64, 4)]


def test_exchanges_are_the_mean_over_paths(tmp_path):
  def row(size, collectives):
    return {"bytes": size, "collectives": collectives, "of_norms": 2}

  result = {
    "weight": {
      "a": {"supernet": row(10, 4), "plain": row(9, 3)},
      "b": {"supernet": row(30, 8), "plain": row(29, 7)},
    },
    "architecture": {"arch full": row(5, 6), "arch two": row(5, 6)},
  }
  path = tmp_path / "communication.json"
  path.write_text(json.dumps(result))
  assert scaling.read_exchanges(path) == {
    "weight": (20, 6, 2),
    "arch full": (5, 6, 2),
  }
