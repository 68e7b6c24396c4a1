"""The costs of a search: in a tiny space, and sums of made-up steps."""

import json

import pytest

from experiments import search_cost
from experiments.macro import spending


@pytest.fixture
def search_file(tmp_path):
  """The search of a file as `experiments.nas_bench_macro` writes it."""
  found = {"arch": "21110211", "macs": 57_430_528, "accuracy": 92.3}
  result = {
    "supernets": [
      {
        "settings": {"warmup_steps": 10, "paths": 2, "batch": 2},
        "paths": {"networks": 12},
        "images": [40, 8],
      }
    ],
    "searches": [{"algorithm": "additive", "target": 60.0, "found": found}],
  }
  path = tmp_path / "search.json"
  path.write_text(json.dumps(result))
  return path


def test_a_whole_search_adds_up_its_steps():
  memory = {"temp_mb": 3.0, "peak_mb": 4.0}
  seconds = {
    "plain": [1.0, 2.0],
    "weight, several paths": [2.0, 4.0],
    "score": [0.3, 0.6],
    "dense": [5.0, 10.0],
  }
  result = {
    "settings": {"batch": 4},
    "search": {"steps": 10, "paths": 20, "candidates": 3},
    "steps": {n: {"seconds": s, "memory": memory} for n, s in seconds.items()},
    "derive_s": 1.0,
  }
  whole = spending.whole_search(result)
  # In the first round 10 steps of 2 s, 20 paths of 0.1 s, and deriving.
  assert whole["search"]["seconds"] == pytest.approx((23.0 + 45.0) / 2)
  same = whole["plain, as many steps"]["search_over_it"]
  assert same == pytest.approx([2.275, 2.25, 2.3])
  dense = whole["dense, as many steps"]["search_over_it"]
  assert dense == pytest.approx([0.455, 0.45, 0.46])
  longer = whole["plain, 50 epochs"]
  assert longer["seconds"] == pytest.approx(1.5 * 50 * 50_000 / 4)
  assert whole["search"]["temporaries_mb"] == 3.0


def test_all_of_it_in_a_tiny_space(tmp_path, search_file, monkeypatch):
  command = f"--out {tmp_path} --search {search_file} --space tiny --batch 4"
  arguments = search_cost.parser().parse_args(
    [*command.split(), "--scored", "4", "--rounds", "1"]
  )

  def in_this_process(name, arguments, cache):
    if name != "plain":
      return {"before": 1.0, "peak": 3.0, "added": 2.0, "compile_s": 0.1}
    search = search_cost.read_search(arguments.search)
    return search_cost.resident(name, search_cost.work_of(arguments, search))

  monkeypatch.setattr(search_cost, "in_fresh_process", in_this_process)
  result = search_cost.run(arguments, str(tmp_path / "cache"))
  assert set(result["steps"]) == set(search_cost.STEPS)
  for step in result["steps"].values():
    assert len(step["seconds"]) == 1
    assert step["memory"]["peak_mb"] > 0
  assert result["resident: plain"]["peak"] > 10
  text = spending.tables_of(result)
  assert all(f"| {name} | " in text for name in search_cost.STEPS)
  # A second call computes nothing.
  monkeypatch.setattr(search_cost, "measure", None)
  assert search_cost.run(arguments, str(tmp_path / "cache")) == result


def test_a_file_without_the_search(tmp_path):
  path = tmp_path / "search.json"
  path.write_text(json.dumps({"searches": []}))
  with pytest.raises(ValueError, match="expected a search by 'additive'"):
    search_cost.read_search(path)
