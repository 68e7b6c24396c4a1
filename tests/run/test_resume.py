"""A run that is stopped, by whatever means, ends as one that is not."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys

import jax
import pytest

from proxyless_jax.run import jobs
from proxyless_jax.run.hosts.preemption import INTERRUPTED, STOPPED
from proxyless_jax.run.storage.json_files import read_json
from proxyless_jax.run.storage.workdir import reached

pytestmark = [
  pytest.mark.usefixtures("unbroken"),  # It skips without the digits.
  # Orbax leaves futures behind when a file turns out to be damaged.
  pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

# The command, but the process signals its group before a step of a stage.
KILLED = """
import dataclasses, os, signal, sys
from proxyless_jax import main
from proxyless_jax.run import jobs

name, at, signal_name = sys.argv.pop(1).split(":")
run_stage = jobs.run_stage

def run_and_die(stage, *args):
  def advance(state, step):
    if (stage.name, step) == (name, int(at)):
      os.killpg(0, signal.Signals[signal_name])
    return stage.advance(state, step)
  return run_stage(dataclasses.replace(stage, advance=advance), *args)

jobs.run_stage = run_and_die
main.run()
"""


class Stop(Exception):
  pass


@pytest.fixture
def stop_at(monkeypatch):
  """Makes runs stop before a step of a stage, or nowhere."""
  run_stage = jobs.run_stage

  def arrange(name, at):
    def run(stage, *args):
      def advance(state, step):
        if stage.name == name and step >= at:
          raise Stop
        return stage.advance(state, step)

      return run_stage(dataclasses.replace(stage, advance=advance), *args)

    monkeypatch.setattr(jobs, "run_stage", run)

  return arrange


def test_killed_in_every_stage(make_config, unbroken, outcome, tmp_path):
  workdir = tmp_path / "run"
  path = tmp_path / "config.py"
  path.write_text(
    "from ml_collections import ConfigDict\n"
    f"def get_config():\n  return ConfigDict({make_config()!r})\n"
  )
  flags = [f"--config={path}", f"--workdir={workdir}"]
  environment = {**os.environ, "PYTHONPATH": os.getcwd()}

  def start(*command, more=()):
    return subprocess.run(
      [sys.executable, *command, *flags, *more],
      env=environment,
      capture_output=True,
      text=True,
      timeout=600,
      start_new_session=True,
    )

  # Right after a checkpoint began in warm-up; in the search; in the training.
  ends = {
    "SIGKILL": (-signal.SIGKILL, ""),
    "SIGTERM": (0, f"{STOPPED}\n"),
    "SIGINT": (130, f"{INTERRUPTED}\n"),
  }
  for point in ("search:3:SIGKILL", "search:10:SIGTERM", "train:7:SIGINT"):
    code, last = ends[point.rpartition(":")[2]]
    # Processes that prepare data get the signal too, and outlive the step.
    more = ["--config.data.workers=1"] if last else []
    process = start("-c", KILLED, point, more=more)
    assert process.returncode == code, process.stderr
    assert process.stderr.endswith(last or "\n")
    assert "Traceback" not in process.stderr
    assert not (workdir / "result.json").exists()
  process = start("-m", "proxyless_jax.main")
  assert process.returncode == 0, process.stderr
  assert f"on {unbroken[1]['images']} images" in process.stdout
  assert "train: resumed at step 8" in process.stderr
  assert outcome(workdir) == outcome(unbroken[0])


def test_stopped_between_and_within_stages(
  make_config, unbroken, outcome, stop_at, monkeypatch, tmp_path
):
  for point in [("search", 0), ("search", 7), ("search", 15), ("train", 0)]:
    stop_at(*point)
    with pytest.raises(Stop):
      jobs.search(make_config(), tmp_path)
  stop_at("", 0)
  with monkeypatch.context() as patch:
    patch.setattr(jobs, "evaluate_network", fail)
    with pytest.raises(Stop):
      jobs.search(make_config(), tmp_path)
  jobs.search(make_config(), tmp_path)
  assert outcome(tmp_path) == outcome(unbroken[0])


def test_what_has_ended_takes_no_step_again(
  make_config, unbroken, outcome, stop_at, tmp_path
):
  workdir = shutil.copytree(unbroken[0], tmp_path / "copy")
  for name in ("search", "train"):
    stop_at(name, 0)
    result = jobs.search(make_config(), workdir)
    assert result["seconds_search"] == unbroken[1]["seconds_search"]
    assert result["seconds_train"] == unbroken[1]["seconds_train"]
    assert outcome(workdir) == outcome(unbroken[0])


@pytest.mark.parametrize("stage, newest", [("search", 16), ("train", 10)])
def test_a_damaged_checkpoint_falls_back(
  make_config, unbroken, outcome, tmp_path, stage, newest
):
  workdir = shutil.copytree(unbroken[0], tmp_path / "copy")
  folder = workdir / "checkpoints" / stage
  path = max(
    (folder / str(newest) / "state" / "d").iterdir(),
    key=lambda p: p.stat().st_size,
  )
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)
  if stage == "search":
    # As if the training had not begun: the search had not ended either.
    shutil.rmtree(workdir / "checkpoints" / "train")
  with pytest.warns(UserWarning, match=f"checkpoint of step {newest} is dam"):
    jobs.search(make_config(), workdir)
  assert outcome(workdir) == outcome(unbroken[0])


@pytest.fixture
def epochs(make_config):
  """Of as many steps of the training, which has 10 unless it is changed."""
  of_ten = make_config()["train"]["epochs"]
  return lambda steps: of_ten * steps / 10


def test_a_training_that_has_ended_goes_on_for_more_epochs(
  make_config, unbroken, epochs, stop_at, capsys, tmp_path
):
  workdir = shutil.copytree(unbroken[0], tmp_path / "copy")
  stop_at("search", 0)  # The search takes no step.
  config = make_config(train__epochs=epochs(12), evaluate__batch=33)
  jobs.search(config, workdir)
  said = capsys.readouterr().err
  assert f"train.epochs: {epochs(10)!r} -> {epochs(12)!r}; " in said
  assert (
    "evaluate.batch: 50 -> 33; the training continues at step 10, w" in said
  )
  assert "train: resumed at step 10" in said
  assert reached(workdir) == {"search": 16, "train": 12}
  assert read_json(workdir / "config.json")["train"]["epochs"] == epochs(12)
  jobs.search(config, workdir)
  assert "since the last start" not in capsys.readouterr().err
  fewer = make_config(train__epochs=epochs(11), evaluate__batch=33)
  with pytest.raises(
    ValueError, match=r"expected 0\.04 or more, .* at step 12"
  ):
    jobs.search(fewer, workdir)


def test_what_may_change_before_the_training_and_within(
  make_config, unbroken, stop_at, capsys, tmp_path
):
  workdir = shutil.copytree(unbroken[0], tmp_path / "copy")
  with pytest.raises(ValueError, match=r"train\.lr: 0\.1 in the workdir, 0\.2"):
    jobs.search(make_config(train__lr=0.2), workdir)
  shutil.rmtree(workdir / "checkpoints" / "train")
  with pytest.raises(ValueError) as error:
    jobs.search(make_config(search__epochs=1.0, train__lr=0.2), workdir)
  assert "search.epochs: " in str(error.value)
  assert "train.lr" not in str(error.value)
  stop_at("train", 3)
  with pytest.raises(Stop):
    jobs.search(make_config(train__lr=0.2, data__cutout=2), workdir)
  said = capsys.readouterr().err
  assert "data.cutout: 0 -> 2; train.lr: 0.1 -> 0.2\n" in said


def test_jax_enable_x64_changes_no_state(
  make_config, unbroken, outcome, tmp_path
):
  """It ran into indices of two types; a run may also turn it on as it goes."""
  workdir = shutil.copytree(unbroken[0], tmp_path / "copy")
  shutil.rmtree(workdir / "checkpoints" / "search" / "16")
  shutil.rmtree(workdir / "checkpoints" / "train")
  with jax.enable_x64(True):
    result = jobs.search(make_config(), workdir)
  assert result["images"] == unbroken[1]["images"]
  # Of the arrays, their shapes and types; and the last steps.
  before, after = (
    outcome(path)["checkpoints"] for path in (unbroken[0], workdir)
  )
  for stage, (step, checksums, positions) in after.items():
    assert (step, checksums.keys(), positions) == (
      before[stage][0],
      before[stage][1].keys(),
      before[stage][2],
    )
  # Without it, too, the run would continue from there.
  jobs.search(make_config(), workdir)


def test_inherited_weights_resume(make_config, outcome, stop_at, tmp_path):
  config = make_config(train__inherit=True)
  for name, points in (("whole", ()), ("broken", (("train", 0), ("train", 5)))):
    for point in points:
      stop_at(*point)
      with pytest.raises(Stop):
        jobs.search(config, tmp_path / name)
    stop_at("", 0)
    jobs.search(config, tmp_path / name)
  assert outcome(tmp_path / "whole") == outcome(tmp_path / "broken")


def fail(*args, **options):
  raise Stop
