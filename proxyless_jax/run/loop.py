"""The loop: steps, metrics, checkpoints, and resuming after a stop.

The same loop runs searches and trainings; what differs is in a `Stage`. What
the loop carries from step to step is the stage's state, the metrics since the
last log, the seconds spent and the positions of the data. All of it is in a
checkpoint, so that a stage that was stopped at any moment ends as if it had
not been.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from proxyless_jax.report import Longer, MetricsWriter, Progress
from proxyless_jax.run.config.options import RunOptions
from proxyless_jax.run.finite import check_finite, probes
from proxyless_jax.run.hosts import hosts
from proxyless_jax.run.hosts.preemption import deferred, shielded
from proxyless_jax.run.ledger import Ledger
from proxyless_jax.run.storage.checkpoint import Checkpoints
from proxyless_jax.run.storage.disk import explained
from proxyless_jax.run.storage.workdir import checkpoint_folder, locked
from proxyless_jax.space import Network
from proxyless_jax.training.metrics import Mean, Metrics, merge

# What a checkpoint holds besides the positions of the data: "state", any
# pytree; "metrics", sums and counts since the last log; "seconds", f32[].
Carry = dict[str, Any]

_add = jax.jit(merge)


@dataclasses.dataclass(frozen=True)
class Searched:
  """What a stage searches, for the record of how it went.

  Attributes:
    space: the search space.
    alpha: function from the state to the logits of its candidates, f[e, k], on
      every host.
  """

  space: Network
  alpha: Callable[[Any], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Stage:
  """What the loop runs: a search or a training.

  Attributes:
    name: 'search' or 'train'.
    steps: number of steps.
    batch: images per step.
    init: function that makes the state before the first step.
    iterators: iterators of the data, by name; `advance` draws from them.
    metrics: names of all metrics that `advance` may give.
    advance: function from the state and the number of the step, counted from
      0, to the next state and the metrics of the step.
    units: units of metrics, for people.
    longer: steps that do more than the others, or None.
    searched: space and alpha that are recorded at each log, or None.

  To look only for the newest state (`newest_state`), the iterators and
  `advance` may be None.
  """

  name: str
  steps: int
  batch: int
  init: Callable[[], Any]
  iterators: Mapping[str, Any]
  metrics: tuple[str, ...]
  advance: Callable[[Any, int], tuple[Any, Metrics]] | None
  units: Mapping[str, str] = dataclasses.field(default_factory=dict)
  longer: Longer | None = None
  searched: Searched | None = None


def run_stage(
  stage: Stage, workdir: str | os.PathLike, options: RunOptions
) -> tuple[Any, float]:
  """Runs a stage from its newest checkpoint, or its beginning, to its end.

  Args:
    stage: description of the stage.
    workdir: folder of its checkpoints and metrics.
    options: intervals of logs and checkpoints.

  Returns:
    The last state, and the seconds that all starts together spent in the stage.

  Raises:
    FloatingPointError: a metric or the state is not finite.
    OSError: the workdir cannot be written any more.
    Preempted: SIGTERM came, and a checkpoint of the last step is on disk.
    Interrupted: Ctrl-C came, likewise.
  """
  folder = checkpoint_folder(workdir, stage.name)
  carry = first_carry(stage)
  with (
    explained(workdir),
    locked(workdir) if hosts.first() else contextlib.nullcontext(),
    _closing(stage),
    Checkpoints(folder, keep=options.keep) as checkpoints,
  ):
    # Restoring also moves the data to where they were.
    step, carry = checkpoints.restore(carry, stage.iterators) or (0, carry)
    if step < stage.steps:
      carry = take_steps(stage, step, carry, checkpoints, workdir, options)
    else:
      done = f"all {step} steps were taken before"
      hosts.print_lines([f"{stage.name}: {done}{checkpoints.moved}"])
  return carry["state"], float(carry["seconds"])


def take_steps(
  stage: Stage,
  step: int,
  carry: Carry,
  checkpoints: Checkpoints,
  workdir: str | os.PathLike,
  options: RunOptions,
) -> Carry:
  """Takes the steps of a stage from `step` on; saves after the last one.

  Args:
    stage: description of the stage.
    step: number of steps that were taken before.
    carry: what the loop carries after these steps.
    checkpoints: checkpoints of the stage.
    workdir: folder of the metrics.
    options: intervals of logs and checkpoints.

  Returns:
    What the loop carries after the last step.

  Raises:
    As `run_stage`.
  """
  assert stage.advance is not None  # None only serves `newest_state`.
  start = time.perf_counter() - float(carry["seconds"])
  state, metrics, stop = carry["state"], carry["metrics"], False
  saved = good = step  # The last step saved; the last one known to be finite.
  with (
    # Until the end of this block, SIGTERM and Ctrl-C only set a flag.
    deferred() as stop_asked,
    _progress(stage, step, checkpoints.moved) as progress,
    _writer(stage, step, workdir) as writer,
  ):
    ledger = _ledger(stage, step, workdir)
    _start_prefetch(stage)
    while step < stage.steps and not stop:
      progress.begin(step)
      state, new = stage.advance(state, step)
      metrics = _add(metrics, new)
      step += 1
      progress.update(step)
      stop = stop_asked()  # Hosts agree here, so that all ask in every step.
      if step % options.log_every == 0 or step == stage.steps:
        values = _means(metrics)
        check_finite(stage.name, values, good, step, saved)
        progress.log(step, values)
        with progress.pause():
          _write(writer, stage, state, step, values)
          ledger.log(step, time.perf_counter() - start)
        metrics, good = _no_metrics(stage), step
      if step % options.checkpoint_every == 0 or step == stage.steps or stop:
        with progress.pause():
          # A checkpoint with NaN in it would be where every restart begins.
          check_finite(stage.name, probes(state, metrics), good, step, saved)
          carry = _carry(state, metrics, time.perf_counter() - start)
          checkpoints.save(step, carry, stage.iterators)  # In the background.
          saved = good = step
    checkpoints.wait()
    ledger.end(step, time.perf_counter() - start)
  return carry


def _write(writer, stage: Stage, state: Any, step: int, values: dict) -> None:
  """Writes the metrics of a log, and alpha where the stage has it."""
  writer.write(step, values)
  if stage.searched:
    writer.write_alpha(step, stage.searched.alpha(state))


def newest_state(
  stage: Stage, workdir: str | os.PathLike, options: RunOptions
) -> tuple[int, Any] | None:
  """(step, state) of the newest checkpoint of a stage; None without one.

  Args:
    stage: description of the stage; its iterators and `advance` may be None.
    workdir: folder of the run.
    options: options of the run.
  """
  folder = checkpoint_folder(workdir, stage.name)
  if not os.path.isdir(folder):
    return None
  # A training may be going on there, so that nothing is written or renamed.
  opened = Checkpoints(folder, keep=options.keep, writes=False)
  with _closing(stage), opened as checkpoints:
    found = checkpoints.restore(first_carry(stage), stage.iterators)
  return found and (found[0], found[1]["state"])


def first_carry(stage: Stage) -> Carry:
  """What the loop carries before the first step."""
  return _carry(stage.init(), _no_metrics(stage), 0.0)


def _carry(state: Any, metrics: Metrics, seconds: float) -> Carry:
  return {"state": state, "metrics": metrics, "seconds": np.float32(seconds)}


@contextlib.contextmanager
def _closing(stage: Stage) -> Iterator[None]:
  """Ends the threads and processes of the data, whatever happens."""
  try:
    yield
  finally:
    for iterator in stage.iterators.values():
      if iterator is not None:
        iterator.close()


def _start_prefetch(stage: Stage) -> None:
  """Starts to prepare batches.

  Schedulers and terminals signal all processes of a job; the loop still needs
  batches for the step that it ends, so that workers see no such signal.
  """
  with shielded():
    for iterator in stage.iterators.values():
      iterator.start_prefetch()


def show_progress(
  stage: str, steps: int, start_step: int = 0, **more: Any
) -> Progress | _Quiet:
  """A `Progress`, which only the first host shows.

  Args:
    stage, steps, start_step, more: arguments of `Progress`.
  """
  if not hosts.first():
    return _Quiet()
  return Progress(stage, steps, start_step, **more)


def _progress(stage: Stage, step: int, moved: str):
  if step:  # Before progress says that the next step compiles.
    hosts.print_lines([f"{stage.name}: resumed at step {step}{moved}"])
  more = dict(batch=stage.batch, units=stage.units, longer=stage.longer)
  return show_progress(stage.name, stage.steps, step, **more)


def _writer(stage: Stage, step: int, workdir):
  """Writes metrics on the first host."""
  if not hosts.first():
    return _Quiet()
  space = stage.searched.space if stage.searched else None
  return MetricsWriter(workdir, stage.name, step, space=space)


def _ledger(stage: Stage, step: int, workdir):
  """Writes what the stage costs, and the report, on the first host."""
  if not hosts.first():
    return _Quiet()
  return Ledger(workdir, stage.name, step, steps=stage.steps, batch=stage.batch)


class _Quiet(contextlib.AbstractContextManager):
  """Progress, writer and ledger of a host that neither shows nor writes."""

  def update(self, *args) -> None:
    pass

  begin = log = message = write = write_alpha = end = update

  def pause(self) -> contextlib.AbstractContextManager:
    return contextlib.nullcontext()

  def __exit__(self, *exception) -> None:
    pass


def _no_metrics(stage: Stage) -> Metrics:
  zero = functools.partial(jnp.zeros, (), jnp.float32)
  return {name: Mean(zero(), zero()) for name in stage.metrics}


def _means(metrics: Metrics) -> dict[str, float]:
  """The means, fetched from the device; names without a count are left out."""
  return {
    name: float(mean.total / mean.count)
    for name, mean in jax.device_get(metrics).items()
    if mean.count
  }
