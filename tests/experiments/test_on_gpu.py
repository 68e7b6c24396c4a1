"""The small form of `experiments.on_gpu`, on CPU."""

import json
import subprocess
import sys

import pytest

from experiments import on_gpu
from experiments.gpu.journal import Journal

IN_PROCESS = ("depthwise", "depthwise_pallas", "steps_first_untimed", "latency")


def run(name, folder):
  (unit,) = (unit for unit in on_gpu.UNITS if unit.name == name)
  assert on_gpu.run_unit(unit, folder, 100.0, small=True)
  return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.parametrize("name", IN_PROCESS)
def test_units_measure_and_go_on(tmp_path, name):
  rows = run(name, tmp_path)
  values = {key: v for row in rows.values() for key, v in row.items()}
  assert len(rows) > 1 and not [key for key in values if "fail" in key]
  if name.startswith("depthwise"):  # How far the ways are from the native one.
    errors = [v for key, v in values.items() if key.endswith("_error")]
    assert errors and max(errors) < 0.01
  assert run(name, tmp_path) == rows


def test_the_command_runs_units_as_processes(tmp_path):
  command = [sys.executable, "-m", "experiments.on_gpu", "--small"]
  command += ["--parts", "switch", "--out", str(tmp_path)]
  subprocess.run(command, check=True, cwd=on_gpu.ROOT)
  ended = json.loads((tmp_path / "units.json").read_text())
  names = [unit.name for unit in on_gpu.UNITS if unit.part == "switch"]
  assert ended == dict.fromkeys(names, "done")
  merged = json.loads((tmp_path / "on_gpu.json").read_text())
  assert sorted(merged) == sorted(names)


def test_a_row_that_failed_is_tried_again(tmp_path):
  journal = Journal(tmp_path / "a.json", 10.0)
  journal.add("good", {"us": 1.0})
  journal.add("bad", {"failed": "why"})
  journal = Journal(tmp_path / "a.json", 10.0)
  assert "good" in journal and "bad" not in journal and "new" not in journal


def test_every_unit_is_a_part_of_its_own_journal():
  names = [unit.name for unit in on_gpu.UNITS]
  assert len(set(names)) == len(names)
