"""SIGTERM and Ctrl-C: at once outside a loop, within one after a save."""

import functools
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from proxyless_jax.report import read_metrics
from proxyless_jax.run.config.options import RunOptions
from proxyless_jax.run.hosts.preemption import (
  INTERRUPTED,
  SAVING,
  STOPPED,
  Interrupted,
  Preempted,
  deferred,
  handled,
)
from proxyless_jax.run.loop import Stage, run_stage
from proxyless_jax.training.metrics import Mean

# Seconds after which a program hangs, also on a machine that is busy.
TOO_LONG = 600


@pytest.fixture(autouse=True)
def default_handler():
  earlier = signal.signal(signal.SIGTERM, signal.SIG_DFL)
  yield
  signal.signal(signal.SIGTERM, earlier)


def terminate():
  os.kill(os.getpid(), signal.SIGTERM)


def handler(signum=signal.SIGTERM):
  return signal.getsignal(signum)


def interrupt():
  signal.raise_signal(signal.SIGINT)


def test_a_program_that_does_not_catch_it_exits_0():
  assert not issubclass(Preempted, Exception)
  with pytest.raises(SystemExit) as exit_:
    raise Preempted
  assert exit_.value.code == 0


def test_at_once_where_nothing_is_put_off(capsys):
  with pytest.raises(Preempted), handled():
    terminate()
    raise AssertionError
  assert capsys.readouterr().err == f"{STOPPED}\n"
  terminate()  # The program is about to end, and a second one changes nothing.


def test_the_handler_goes_with_the_block():
  with handled():
    assert handler() is not signal.SIG_DFL
  assert handler() is signal.SIG_DFL
  with pytest.raises(KeyboardInterrupt), handled():
    raise KeyboardInterrupt
  assert handler() is signal.SIG_DFL


@pytest.mark.parametrize("block", [handled, deferred])
def test_a_handler_of_the_user_stays(block):
  calls = []

  def of_user(*args):
    calls.append(args)

  signal.signal(signal.SIGTERM, of_user)
  with block():
    terminate()
    assert handler() is of_user
  assert handler() is of_user
  assert len(calls) == 1


@pytest.mark.parametrize("block", [handled, deferred])
def test_other_threads_leave_signals_alone(block):
  done = []

  def run():
    with block():
      done.append(handler())

  thread = threading.Thread(target=run)
  thread.start()
  thread.join()
  assert done == [signal.SIG_DFL]


def loop(steps, signals):
  """Counts the steps of a loop that is told to stop."""
  done = 0
  with deferred() as stop_asked:
    while done < steps:
      if done in signals:
        terminate()
      done += 1
      if stop_asked():
        break
    yield done
    # As in a save that is under way.
    if done in signals:
      terminate()


@pytest.mark.parametrize("signals, done", [([0], 1), ([3, 4], 4), ([9], 10)])
@pytest.mark.parametrize("program", [False, True])
def test_a_loop_ends_its_step(signals, done, program, capsys):
  steps = []

  def run():
    steps.extend(loop(10, signals))

  with pytest.raises(Preempted):
    if program:
      with handled():
        run()
    else:
      run()
  assert steps == [done]
  assert capsys.readouterr().err == (f"{STOPPED}\n" if program else "")
  assert (handler() is signal.SIG_DFL) is not program


def test_after_the_last_step(capsys):
  with pytest.raises(Preempted), handled():
    with deferred():
      terminate()
    raise AssertionError


def test_a_loop_that_nobody_stops():
  assert list(loop(10, [])) == [10]
  assert handler() is signal.SIG_DFL
  with pytest.raises(Preempted), handled():
    assert list(loop(10, [])) == [10]
    terminate()  # It is put off no more.


def test_an_error_in_the_loop_is_not_hidden():
  with pytest.raises(ValueError, match="bad"), deferred():
    terminate()
    raise ValueError("bad")


def test_control_c_ends_the_step_and_the_second_does_not_wait():
  saved = pytest.raises(Interrupted, match="saved: the same call")
  with saved, deferred() as stop_asked:
    assert not stop_asked()
    interrupt()
    assert stop_asked()
  with pytest.raises(KeyboardInterrupt) as error, deferred():
    interrupt()
    interrupt()
    raise AssertionError
  assert error.type is KeyboardInterrupt  # Nothing says that it was saved.
  assert handler(signal.SIGINT) is signal.default_int_handler
  with pytest.raises(KeyboardInterrupt):
    interrupt()


def test_a_handler_of_control_c_of_the_user_stays():
  calls = []
  earlier = signal.signal(signal.SIGINT, lambda *args: calls.append(args))
  try:
    with deferred() as stop_asked:
      interrupt()
      assert not stop_asked()
  finally:
    signal.signal(signal.SIGINT, earlier)
  assert len(calls) == 1


def test_both_signals():
  with pytest.raises(Preempted), deferred():
    interrupt()
    terminate()


def test_a_program_that_is_interrupted_exits_130(capsys):
  with pytest.raises(SystemExit) as exit_, handled(), deferred():
    interrupt()
  assert exit_.value.code == 130
  assert capsys.readouterr().err.endswith(f"{INTERRUPTED}\n")


BUSY = """
import jax
from proxyless_jax.run.hosts.preemption import deferred, handled

@jax.jit
def forever():
  return jax.lax.while_loop(lambda x: x >= 0, lambda x: (x + 1) % 7, 0)

forever = forever.lower().compile()
with handled(), deferred():
  print("ready", flush=True)
  forever().block_until_ready()
"""


def test_the_second_control_c_ends_what_python_cannot_interrupt():
  with subprocess.Popen(
    [sys.executable, "-c", BUSY],
    env={**os.environ, "PYTHONPATH": os.getcwd()},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == f"{SAVING}\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(TOO_LONG) == 130


STEPS = 200
# JAX's service looks for signals once a second; a step takes so many seconds
# until it should have looked, and then so many that it has a minute to do so.
STEP_SECONDS, AFTER, SLOW_STEP_SECONDS = 0.02, 100, 1.0
MESH_PARTS = {"parts": P("data"), "count": P(), "key": P()}
HOST = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import test_preemption
test_preemption.run_host(*sys.argv[1:])
"""


class Numbers:
  """Data whose position is all that there is of it."""

  def __init__(self):
    self.next_index = 0

  def __next__(self):
    self.next_index += 1

  def get_state(self):
    return {"next_index": self.next_index}

  def set_state(self, state):
    self.next_index = state["next_index"]

  def start_prefetch(self):
    pass

  def close(self):
    pass


def make_state():
  return {
    "parts": jnp.arange(6.0),
    "count": jnp.int32(0),
    "key": jax.random.key(0),
  }


@functools.partial(jax.jit, donate_argnums=0)
def step_of(state):
  state = {
    "parts": state["parts"] + 1,
    "count": state["count"] + 1,
    "key": jax.random.fold_in(state["key"], state["count"]),
  }
  return state, {"loss": Mean(jnp.sum(state["parts"]), jnp.float32(1))}


def make_stage(shardings=None, before_step=lambda step: None):
  numbers = Numbers()

  def advance(state, step):
    next(numbers)
    before_step(step)
    return step_of(state)

  return Stage(
    name="search",
    steps=STEPS,
    batch=2,
    init=jax.jit(make_state, out_shardings=shardings),
    iterators={"numbers": numbers},
    metrics=("loss",),
    advance=advance,
  )


OPTIONS = RunOptions(
  log_every=50, checkpoint_every=60, keep=2, shard_state=False
)


def run_host(port, host, workdir, stop_at, signal_name):
  """One of two hosts, each with a device; the second is told to stop."""

  def before_step(step):
    if host == "1" and step == int(stop_at):
      signal.raise_signal(signal.Signals[signal_name])
    late = int(stop_at) >= 0 and step > int(stop_at) + AFTER
    time.sleep(SLOW_STEP_SECONDS if late else STEP_SECONDS)

  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  with handled():
    jax.distributed.initialize(f"localhost:{port}", 2, int(host))
    mesh = jax.make_mesh((2,), ("data",))
    shardings = {k: NamedSharding(mesh, spec) for k, spec in MESH_PARTS.items()}
    run_stage(make_stage(shardings, before_step), workdir, OPTIONS)


def start_hosts(port, workdir, stop_at, signal_name="SIGTERM"):
  """Runs both hosts to their end; gives what they print."""
  folder = str(pathlib.Path(__file__).parent)
  processes = [
    subprocess.Popen(
      [
        *(sys.executable, "-c", HOST),
        *(folder, str(port), host, workdir, stop_at, signal_name),
      ],
      env={
        **os.environ,
        "PYTHONPATH": os.getcwd(),
        "XLA_FLAGS": "",
        # Programs from it order their collectives otherwise (`keep_compiled`).
        "JAX_ENABLE_COMPILATION_CACHE": "0",
      },
      stderr=subprocess.PIPE,
      text=True,
    )
    for host in "01"
  ]
  errors = [process.communicate(timeout=TOO_LONG)[1] for process in processes]
  codes = [0, 130 if signal_name == "SIGINT" else 0]
  assert [process.returncode for process in processes] == codes, errors
  return errors


@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGINT"])
def test_two_hosts_stop_at_the_same_step(tmp_path, signal_name, free_port):
  folder = tmp_path / "checkpoints" / "search"
  errors = start_hosts(free_port(), tmp_path, "10", signal_name)
  interrupted = signal_name == "SIGINT"
  assert STOPPED in errors[0]
  assert (INTERRUPTED if interrupted else STOPPED) in errors[1]
  # One host shows and writes.
  assert [error.count("search: first step") for error in errors] == [1, 0]
  newest = max(int(path.name) for path in folder.iterdir())
  assert 10 < newest < STEPS
  assert len(read_metrics(tmp_path)) == newest // 50
  # It continues alone, and ends as if nothing had been.
  states = [
    run_stage(make_stage(), workdir, OPTIONS)[0]
    for workdir in (tmp_path, tmp_path / "unbroken")
  ]
  for a, b in zip(*map(jax.tree.leaves, states)):
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
      a, b = jax.random.key_data(a), jax.random.key_data(b)
    np.testing.assert_array_equal(a, b)
  lines = (tmp_path / "metrics.jsonl").read_bytes()
  assert lines == (tmp_path / "unbroken" / "metrics.jsonl").read_bytes()


def test_two_hosts_go_on_from_one(tmp_path, free_port):
  stage = make_stage(before_step=lambda step: step == 130 and terminate())
  with pytest.raises(Preempted):
    run_stage(stage, tmp_path, OPTIONS)
  errors = start_hosts(free_port(), tmp_path, "-1")
  moved = ", on 2 devices of 2 hosts instead of 1 device of 1 host"
  assert f"search: resumed at step 131{moved}\n" in errors[0]
  assert [line["step"] for line in read_metrics(tmp_path)] == [
    50,
    100,
    150,
    200,
  ]
  state, _ = run_stage(make_stage(), tmp_path, OPTIONS)
  np.testing.assert_array_equal(state["parts"], np.arange(6.0) + STEPS)
