"""Changes one at a time: journals and table, on a made-up experiment."""

import json
from typing import ClassVar

import pytest

from experiments import changes
from experiments.macro import command


class MadeUp:
  """Writes the journals of an experiment without computing one."""

  calls: ClassVar[list] = []

  def __init__(self, arguments):
    self.arguments = arguments

  def supernet(self, seed):
    done = [e["seed"] for e in changes.read_journal(self.path("supernets"))]
    if seed not in done and "warm-up" in str(self.arguments.out):
      self.keep("supernets", seed=seed, paths=ranked(0.5))
    return seed

  def search(self, of_seed, seed, algorithm, target):
    assert of_seed == seed
    self.calls.append((self.arguments.out.name, algorithm, target))
    found = {"target": target, "found": {"regret": 0.25}, "entropy_end": 0.9}
    self.keep("searches", seed=seed, **found)

  def path(self, name):
    return self.arguments.out / f"{name}.jsonl"

  def keep(self, name, **entry):
    with self.path(name).open("a") as file:
      file.write(json.dumps(entry) + "\n")


def ranked(tau):
  return {"by_loss": {"tau": tau}, "near": {"30 to 40": {"tau": 0.1}}}


@pytest.fixture
def calls(monkeypatch):
  monkeypatch.setattr(changes, "Experiment", MadeUp)
  monkeypatch.setattr(MadeUp, "calls", [])
  return MadeUp.calls


def test_each_change_once_in_a_folder_of_its_own(calls, tmp_path):
  supernets = tmp_path / "supernets"
  supernets.mkdir()
  for name in ("supernet-3.npz", "paths-3.npz"):
    (supernets / name).touch()
  flags = ["--out", str(tmp_path), "--seeds", "3"]
  flags += ["--supernets", str(supernets)]
  found = changes.main(flags)
  assert [e["change"] for e in found["warm-up"]] == list(changes.WARM_UPS)
  assert [e["change"] for e in found["search"]] == list(changes.SEARCHES)
  assert ("six-paths", "additive", 40.0) in calls
  assert ("temperature-2", "full", 60.0) in calls
  lines = changes.summary(found).splitlines()
  assert len(lines) == 2 + len(changes.WARM_UPS) + len(changes.SEARCHES)
  assert lines[1].split()[:3] == ["none", "3", "0.50"]
  assert lines[1].endswith("0.25  0.25  0.25")
  count = len(calls)
  assert changes.main(flags) == found
  assert len(calls) == count


@pytest.mark.parametrize("changed", ["WARM_UPS", "SEARCHES"])
def test_changes_are_of_settings_that_exist(changed, tmp_path):
  """And change them, but for the first."""
  base, *others = (
    settings(change, tmp_path) for change in getattr(changes, changed).values()
  )
  assert all(other != base for other in others)
  # As many images times paths in each.
  assert {o.batch * o.paths for o in others} == {base.batch * base.paths}


def settings(change, out):
  flags = ["--out", str(out), "--set", *change]
  arguments = command.parse(command.parser(None), flags)
  return command.settings_of(arguments, 45_000)
