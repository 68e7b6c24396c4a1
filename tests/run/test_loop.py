import dataclasses
import json
import os
import signal

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proxyless_jax.report import read_metrics
from proxyless_jax.run.config.options import RunOptions
from proxyless_jax.run.hosts.preemption import Preempted
from proxyless_jax.run.loop import Searched, Stage, newest_state, run_stage
from proxyless_jax.run.storage.checkpoint import Checkpoints
from proxyless_jax.training.metrics import Mean
from tests.spaces import small_space

OPTIONS = RunOptions(log_every=4, checkpoint_every=3, keep=2, shard_state=False)
STEPS = 10


class Stop(Exception):
  pass


class Stream:
  """A Grain iterator that says whether it was closed."""

  def __init__(self, values):
    self._iterator = iter(grain.MapDataset.source(values).to_iter_dataset())
    self.closed = False

  def __next__(self):
    return next(self._iterator)

  def get_state(self):
    return self._iterator.get_state()

  def set_state(self, state):
    self._iterator.set_state(state)

  def start_prefetch(self):
    pass

  def close(self):
    self._iterator.close()
    self.closed = True


def make_stage(stop_at=None, values=None):
  values = [float(i + 1) for i in range(STEPS)] if values is None else values
  stream = Stream(values)

  @jax.jit
  def step_of(state, value):
    key, _ = jax.random.split(state["key"])
    state = {"sum": state["sum"] + value, "key": key}
    noise = jax.random.uniform(state["key"])
    metrics = {"loss": Mean(value + noise, jnp.ones(()))}
    return state, metrics

  def advance(state, step):
    if step == stop_at:
      raise Stop
    state, metrics = step_of(state, next(stream))
    if step % 2:
      metrics = {**metrics, "odd": Mean(jnp.float32(step), jnp.ones(()))}
    return state, metrics

  def alpha(state):
    return np.full((2, 3), state["sum"] / 7)

  return Stage(
    name="search",
    steps=STEPS,
    batch=2,
    init=lambda: {"sum": jnp.zeros(()), "key": jax.random.key(0)},
    iterators={"numbers": stream},
    metrics=("loss", "odd", "never"),
    advance=advance,
    searched=Searched(small_space(), alpha),
  )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """The last state, and the metrics, of a stage that nothing stopped."""
  workdir = tmp_path_factory.mktemp("whole")
  state, _ = run_stage(make_stage(), workdir, OPTIONS)
  return state, written(workdir)


def written(workdir):
  """What is written at logs, which an interruption must not change."""
  names = ("metrics.jsonl", "alpha.jsonl")
  return [(workdir / name).read_bytes() for name in names]


def saved(workdir):
  folder = workdir / "checkpoints" / "search"
  return sorted(int(name) for name in os.listdir(folder))


def test_logs_and_saves_when_asked_and_at_the_end(tmp_path):
  stage = make_stage()
  state, seconds = run_stage(stage, tmp_path, OPTIONS)
  assert float(state["sum"]) == sum(range(STEPS + 1))
  assert seconds > 0
  lines = read_metrics(tmp_path)
  assert [line["step"] for line in lines] == [4, 8, 10]
  assert [line["odd"] for line in lines] == [2.0, 6.0, 9.0]
  assert not any("never" in line for line in lines)
  assert saved(tmp_path) == [9, 10]
  assert stage.iterators["numbers"].closed


@pytest.mark.parametrize("stops", [[0], [3], [2, 4, 5], [6, 8, 9]])
def test_goes_on_as_if_it_had_not_stopped(tmp_path, whole, stops):
  state, metrics = whole
  for stop in stops:
    stage = make_stage(stop)
    with pytest.raises(Stop):
      run_stage(stage, tmp_path, OPTIONS)
    assert stage.iterators["numbers"].closed
  again, _ = run_stage(make_stage(), tmp_path, OPTIONS)
  assert jax.tree.map(
    lambda a, b: (
      (jax.random.key_data(a) == jax.random.key_data(b)).all()
      if jnp.issubdtype(a.dtype, jax.dtypes.prng_key)
      else bool(a == b)
    ),
    state,
    again,
  ) == {"key": True, "sum": True}
  assert written(tmp_path) == metrics


def test_what_has_ended_takes_no_step_again(tmp_path):
  state, seconds = run_stage(make_stage(), tmp_path, OPTIONS)
  again, seconds_again = run_stage(make_stage(stop_at=0), tmp_path, OPTIONS)
  assert float(again["sum"]) == float(state["sum"])
  assert seconds_again == seconds
  assert len(read_metrics(tmp_path)) == 3


def test_how_it_is_watched_may_change(tmp_path):
  with pytest.raises(Stop):
    run_stage(make_stage(7), tmp_path, OPTIONS)
  options = RunOptions(
    log_every=5, checkpoint_every=1, keep=4, shard_state=False
  )
  state, _ = run_stage(make_stage(), tmp_path, options)
  assert float(state["sum"]) == sum(range(STEPS + 1))
  assert [line["step"] for line in read_metrics(tmp_path)] == [4, 10]
  assert saved(tmp_path) == [7, 8, 9, 10]


@pytest.mark.parametrize(
  "at, where, kept",
  [
    (1, "steps 1 to 3: the state, loss", "there is none yet"),
    (4, "steps 5 to 6: the state, loss", "that of step 3 is kept"),
    (6, "steps 7 to 8: loss", "that of step 6 is kept"),
    (9, "steps 10 to 10: loss", "that of step 9 is kept"),
  ],
)
def test_stops_where_it_is_not_finite(tmp_path, at, where, kept):
  values = [1.0] * STEPS
  values[at] = np.nan if at % 2 else np.inf
  for _ in range(2):  # The same command again meets the same problem.
    with pytest.raises(FloatingPointError) as error:
      run_stage(make_stage(values=values), tmp_path, OPTIONS)
    message = str(error.value)
    assert message.startswith(f"stage search, {where} became NaN or infinite")
    assert kept in message and "new workdir" in message
  found = newest_state(make_stage(), tmp_path, OPTIONS)
  if at < 3:
    assert found is None
  else:
    assert float(found[1]["sum"]) == found[0]
  # With the data mended, it continues from the last good checkpoint.
  state, _ = run_stage(make_stage(values=[1.0] * STEPS), tmp_path, OPTIONS)
  assert float(state["sum"]) == STEPS


def test_an_infinite_loss_before_a_finite_state_is_not_saved(tmp_path):
  stage = make_stage()

  def advance(state, step):
    state, metrics = stage.advance(state, step)
    if step == 4:
      metrics = {"loss": Mean(jnp.float32(jnp.inf), jnp.ones(()))}
    return state, metrics

  with pytest.raises(FloatingPointError, match="steps 5 to 6: loss became"):
    run_stage(dataclasses.replace(stage, advance=advance), tmp_path, OPTIONS)
  assert saved(tmp_path) == [3]


def test_newest_state_of_nothing(tmp_path):
  stage = make_stage()
  assert newest_state(stage, tmp_path, OPTIONS) is None
  assert os.listdir(tmp_path) == []


def test_newest_state_is_that_of_the_last_checkpoint(tmp_path):
  with pytest.raises(Stop):
    run_stage(make_stage(8), tmp_path, OPTIONS)
  stage = make_stage()
  step, state = newest_state(stage, tmp_path, OPTIONS)
  assert (step, float(state["sum"])) == (6, sum(range(7)))
  assert stage.iterators["numbers"].closed


def stop_at(at, signals=1):
  """A stage that SIGTERM reaches in a step."""
  stage = make_stage()

  def advance(state, step):
    if step == at:
      for _ in range(signals):
        os.kill(os.getpid(), signal.SIGTERM)
    return stage.advance(state, step)

  return dataclasses.replace(stage, advance=advance)


# In the first step, off and on the steps that are saved or logged, in the last.
@pytest.mark.parametrize("stops", [[0], [2, 3], [4, 6, 7], [9]])
def test_sigterm_saves_the_step(tmp_path, whole, stops):
  state, metrics = whole
  for at in stops:
    stage = stop_at(at, signals=2)
    with pytest.raises(Preempted):
      run_stage(stage, tmp_path, OPTIONS)
    assert stage.iterators["numbers"].closed
    assert saved(tmp_path)[-1] == at + 1
  again, _ = run_stage(make_stage(), tmp_path, OPTIONS)
  assert float(again["sum"]) == float(state["sum"])
  assert written(tmp_path) == metrics


def test_sigterm_during_a_save(tmp_path, monkeypatch):
  save = Checkpoints.save

  def save_and_signal(*args):
    save(*args)
    os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(Checkpoints, "save", save_and_signal)
  with pytest.raises(Preempted):
    run_stage(stop_at(4), tmp_path, OPTIONS)
  monkeypatch.undo()
  step, state = newest_state(make_stage(), tmp_path, OPTIONS)
  assert (step, float(state["sum"])) == (4, sum(range(5)))


def test_a_step_is_not_saved_twice(tmp_path, monkeypatch):
  steps, save = [], Checkpoints.save

  def note(self, step, *args):
    steps.append(step)
    save(self, step, *args)

  monkeypatch.setattr(Checkpoints, "save", note)
  with pytest.raises(Preempted):
    run_stage(stop_at(5), tmp_path, OPTIONS)
  assert steps == [3, 6]


def test_a_state_that_is_not_finite_is_not_saved_for_sigterm(tmp_path):
  make = make_stage(values=[np.inf] * STEPS)
  stage = dataclasses.replace(
    make,
    advance=lambda state, step: (
      os.kill(os.getpid(), signal.SIGTERM) or make.advance(state, step)
    ),
  )
  with pytest.raises(FloatingPointError):
    run_stage(stage, tmp_path, OPTIONS)


def test_hosts_but_the_first_show_and_write_nothing(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr("proxyless_jax.run.hosts.hosts.first", lambda: False)
  state, _ = run_stage(make_stage(), tmp_path, OPTIONS)
  assert float(state["sum"]) == sum(range(STEPS + 1))
  assert capsys.readouterr().err == ""
  assert os.listdir(tmp_path) == ["checkpoints"]


def test_control_c_keeps_what_was_saved(tmp_path):
  stage = make_stage()

  def advance(state, step):
    if step == 6:
      raise KeyboardInterrupt
    return stage.advance(state, step)

  with pytest.raises(KeyboardInterrupt):
    run_stage(dataclasses.replace(stage, advance=advance), tmp_path, OPTIONS)
  assert saved(tmp_path) == [3, 6]
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  assert [json.loads(line)["step"] for line in lines] == [4]
