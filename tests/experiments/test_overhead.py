"""The small form of `experiments.overhead`."""

import json

import pytest

from experiments import overhead


def test_blocks_of_the_loop_and_of_steps_alone(tmp_path):
  pytest.importorskip("mlxtend", reason="needs the extra demo")
  path = tmp_path / "overhead.json"
  arguments = ["--variants", "quick", "--blocks", "2", "--block", "2"]
  overhead.main([*arguments, "--out", str(path)])
  (found,) = json.loads(path.read_text())["searches"]
  assert found["config"] == "mnist:quick"
  for part in ("ms a step in the loop", "ms a step alone"):
    assert len(found[part]) == 2 and min(found[part]) > 0
  assert found["loop / alone"] > 0
