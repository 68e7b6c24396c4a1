"""Several hosts: processes of this machine, which gloo connects."""

import functools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from proxyless_jax.run import jobs
from proxyless_jax.run.finished import load_run
from proxyless_jax.run.hosts import hosts

ROOT = pathlib.Path(hosts.__file__).parents[3]
# Of metrics, which are float32 means: sums over a batch in another order.
TOLERANCE = 2e-5
# Seconds after which a program hangs, also on a machine that is busy.
TOO_LONG = 600
CONTINUES = "the same command on all hosts continues from the last checkpoint"
# A line of JAX's log: its level and day, the time, where it is from.
LOGGED = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d.*\] ")

# A program of several hosts, which joins them and then runs its first argument.
PROGRAM = """
import os, signal, sys, threading
from absl import app, flags
from proxyless_jax.run.config.flags import rendezvous
from proxyless_jax.run.hosts import hosts

code = compile(sys.argv.pop(1), "program", "exec")

def wait_for_ever():
  threading.Event().wait()

@hosts.leaving()
def main(argv):
  hosts.start(rendezvous())
  exec(code, globals())

app.run(main)
"""

# The command, but this host kills itself before a step of the search.
KILLED = """
import dataclasses, os, signal, sys
from proxyless_jax import main
from proxyless_jax.run import jobs

run_stage = jobs.run_stage

def run_and_die(stage, *args):
  def advance(state, step):
    if step == 11:
      os.kill(os.getpid(), signal.SIGKILL)
    return stage.advance(state, step)
  return run_stage(dataclasses.replace(stage, advance=advance), *args)

jobs.run_stage = run_and_die
main.run()
"""
COMMAND = ("-m", "proxyless_jax.main")


@pytest.fixture(scope="module")
def start(tmp_path_factory, free_port):
  """Starts a command on each host, and waits: [(exit code, output)]."""
  folder = tmp_path_factory.mktemp("output")

  def run(*commands):
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment["JAX_PLATFORMS"] = "cpu"
    if len(commands) > 1:  # As `keep_compiled`, but from the first program on.
      environment["JAX_ENABLE_COMPILATION_CACHE"] = "0"
    environment.pop("XLA_FLAGS", None)
    processes = []
    for i, command in enumerate(commands):
      flags = [f"--coordinator=127.0.0.1:{port}", f"--process={i}"]
      flags.append(f"--processes={len(commands)}")
      with open(folder / str(i), "w") as output:
        processes.append(
          subprocess.Popen(
            [sys.executable, *command, *flags],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
          )
        )
    try:
      codes = [process.wait(timeout=TOO_LONG) for process in processes]
    finally:
      for process in processes:
        process.kill()
    return [(c, (folder / str(i)).read_text()) for i, c in enumerate(codes)]

  return run


@pytest.fixture(scope="module")
def flags(make_config, tmp_path_factory):
  """The flags of a command for a workdir, with some fields of the config."""
  folder = tmp_path_factory.mktemp("configs")

  def make(workdir, **fields):
    path = folder / f"{len(os.listdir(folder))}.py"
    path.write_text(
      "from ml_collections import ConfigDict\n"
      f"def get_config():\n  return ConfigDict({make_config(**fields)!r})\n"
    )
    return [f"--config={path}", f"--workdir={workdir}"]

  return make


def program(text):
  return ["-c", PROGRAM, text]


def test_one_host_asks_itself():
  assert hosts.first()
  assert hosts.on_first(lambda: (1, 2)) == (1, 2)
  hosts.check_same("config", {"a": 1})
  hosts.refuse_several("measuring")
  with hosts.leaving():
    hosts.start(None)


def test_hosts_agree(start):
  text = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
print(jax.device_count(), hosts.first(), hosts.on_first(lambda: [0.1, None]))
for make in (PermissionError, lambda text: text.encode("ascii")):
  def fail():
    error = make("ä")
    if isinstance(error, Exception):
      raise error
  try:
    hosts.on_first(fail)
  except (OSError, ValueError) as error:
    print(type(error).__name__, error)
hosts.check_same("config", [1])
try:
  hosts.refuse_several("measuring")
except ValueError as error:
  print(error)
"""
  first, second = start(program(text), program(text))
  assert first[0] == second[0] == 0, (first, second)
  assert "4 True [0.1, None]" in first[1]
  assert "4 False [0.1, None]" in second[1]
  for _, said in (first, second):
    assert "PermissionError ä" in said
    assert "Unicode" in said and "codec can't encode" in said
    assert "measuring: expected 1 host, got 2" in said


def test_costs_are_asked_for_on_the_first_host(start, tmp_path):
  text = f"""
from types import SimpleNamespace as Object
from proxyless_jax.run.black_box import Calls

def board(network):
  print("asked")
  return 1.5 + rendezvous().process

network = Object(edges=[Object(op=Object(name="zero"))])
for again in range(2):
  calls = Calls(None, {{"board": Object(kind=board)}}, {str(tmp_path)!r})
  print(calls.of("board", network))
"""
  first, second = start(program(text), program(text))
  assert first[0] == second[0] == 0, (first, second)
  assert (tmp_path / "calls.jsonl").read_text().count("\n") == 1
  assert [said.count("asked") for _, said in (first, second)] == [1, 0]
  assert [said.count("1.5\n") for _, said in (first, second)] == [2, 2]


def test_a_host_that_differs_stops_all(start):
  text = """
hosts.check_same("config", {"seed": rendezvous().process})
wait_for_ever()
"""
  (first, said), (second, why) = start(program(text), program(text))
  assert first and second
  assert "config: host 1 has another than the first host" in said and why
  assert CONTINUES in said


def ours(said):
  """The lines that are not of JAX's log, whose threads write when they will."""
  return [line for line in said.splitlines() if not LOGGED.match(line)]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_host_stops_those_that_wait_for_data(start, victim):
  text = f"""
if rendezvous().process == {victim}:
  os.kill(os.getpid(), signal.SIGKILL)
wait_for_ever()
"""
  ended = start(program(text), program(text), program(text))
  assert ended[victim][0] == -signal.SIGKILL
  for i, (code, said) in enumerate(ended):
    if i != victim:
      assert code == 1, said
      assert f"another host of this run has stopped (host {victim}" in said
      assert ours(said)[-1].endswith(CONTINUES)


def test_a_user_error_on_one_host_stops_all(
  start, flags, monkeypatch, tmp_path
):
  # The first host, whose end would take JAX's service from the others.
  data = dict(data__source="folder", data__path=str(tmp_path / "data"))
  good = program("import jax; jax.devices(); wait_for_ever()")
  bad = [*COMMAND, *flags(tmp_path / "run", **data)]
  (first, said), (second, why) = start(bad, good)
  assert first == second == 1
  (line,) = ours(said)
  assert line.startswith("error: ") and "expected a folder" in line
  assert "(host 0: data.path=" in why and ours(why)[-1].endswith(CONTINUES)


def metrics(workdir, stage):
  lines = (pathlib.Path(workdir) / "metrics.jsonl").read_text().splitlines()
  return [line for line in map(json.loads, lines) if line["stage"] == stage]


def assert_same_numbers(found, expected):
  assert len(found) == len(expected) > 1
  for line, other in zip(found, expected):
    assert line.pop("stage") == other.pop("stage")
    assert line == pytest.approx(other, rel=TOLERANCE)


SEARCH = dict(train__enabled=False)


@pytest.fixture(scope="module")
def two_hosts(start, flags, tmp_path_factory):
  """The workdir of a search that two hosts ran, unbroken, and their words."""
  pytest.importorskip("mlxtend")
  workdir = tmp_path_factory.mktemp("two")
  command = [*COMMAND, *flags(workdir, **SEARCH)]
  ended = start(command, command)
  assert [code for code, _ in ended] == [0, 0], ended
  return workdir, [said for _, said in ended]


def test_two_hosts_search_as_one(two_hosts, make_config, unbroken, tmp_path):
  workdir, (said, silent) = two_hosts
  assert "search 16/16" in said and "test accuracy" in said
  assert "search 16/16" not in silent and "test accuracy" not in silent
  alone = shutil.copytree(unbroken[0], tmp_path / "alone")
  (alone / "config.json").unlink()
  expected = jobs.search(make_config(**SEARCH), alone)
  assert_same_numbers(metrics(workdir, "search"), metrics(alone, "search"))
  found = json.loads((workdir / "result.json").read_text())
  assert (found["hosts"], found["devices"]) == (2, 2)
  for name, value in expected.items():
    if name.startswith(("top", "loss", "cost_", "edges_off", "images")):
      assert found[name] == pytest.approx(value, rel=TOLERANCE), name
  for name in ("architecture.json", "tables.json"):
    assert (workdir / name).read_text() == (alone / name).read_text()
  loaded = [load_run(folder).variables for folder in (workdir, alone)]
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  jax.tree.map(close, *loaded)


def test_a_killed_search_goes_on_to_the_same_end(
  two_hosts, start, flags, outcome, tmp_path
):
  settings = flags(tmp_path / "run", **SEARCH)
  killed, lives = ["-c", KILLED, *settings], [*COMMAND, *settings]
  (code, said), (signalled, _) = start(lives, killed)
  assert (code, signalled) == (1, -signal.SIGKILL), said
  assert "another host of this run has stopped (host 1 has gone)" in said
  assert ours(said)[-1].endswith(CONTINUES)
  assert not (tmp_path / "run" / "result.json").exists()
  (code, said), (other, why) = start(lives, lives)
  assert code == other == 0, (said, why)
  assert "search: resumed at step 9" in said
  assert outcome(tmp_path / "run") == outcome(two_hosts[0])


def test_four_hosts_train_as_one(start, flags, unbroken, tmp_path):
  fields = dict(job="train", network=f"{unbroken[0]}/architecture.json")
  command = [*COMMAND, *flags(tmp_path, **fields)]
  ended = start(*[command] * 4)
  assert [code for code, _ in ended] == [0] * 4, ended
  assert_same_numbers(metrics(tmp_path, "train"), metrics(unbroken[0], "train"))
  found = json.loads((tmp_path / "result.json").read_text())
  assert (found["hosts"], found["images"]) == (4, unbroken[1]["images"])
  for name in ("loss", "top1", "top5"):
    assert found[name] == pytest.approx(unbroken[1][name], rel=TOLERANCE)


def test_hosts_with_workdirs_of_their_own_are_refused(start, tmp_path):
  """Each would wait for files of the other for ever."""
  text = f"""
import os
hosts.SEEN = 1.0
folder = os.path.join({str(tmp_path)!r}, str(hosts.first()))
os.makedirs(folder)
hosts.check_shared({str(tmp_path)!r})
print("one folder")
hosts.check_shared(folder)
"""
  (code, said), (other, why) = start(program(text), program(text))
  assert code == other == 1
  assert "one folder" in said and "one folder" in why
  assert "expected one folder, the same path" in why
  assert CONTINUES in said
  assert not list(tmp_path.glob("seen-*"))


def wait_for_listener(port):
  """Returns when something listens at a port."""
  end = time.monotonic() + TOO_LONG
  while True:
    try:
      return socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
      assert time.monotonic() < end
      time.sleep(0.05)


def test_sigterm_while_hosts_wait_for_each_other(free_port):
  """Nothing of Python's can interrupt JAX there."""
  port = free_port()
  text = (
    "from proxyless_jax.run.hosts import joining, preemption\n"
    "with preemption.handled():\n"
    "  print('waiting', flush=True)\n"
    f"  joining.join(joining.Rendezvous('127.0.0.1:{port}', 2, 0))\n"
  )
  process = subprocess.Popen(
    [sys.executable, "-c", text],
    cwd=ROOT,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == "waiting\n"
  wait_for_listener(port)  # JAX's service, which waits for the second host.
  process.send_signal(signal.SIGTERM)
  _, said = process.communicate(timeout=TOO_LONG)
  assert process.returncode == 0, said
  assert "stopped by SIGTERM" in said
