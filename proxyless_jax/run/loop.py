"""One stage of a run: steps, metrics, checkpoints, and going on after a stop.

The same loop runs searches and trainings. What it carries from step to step is
the stage's state, the metrics since the last log, the seconds spent and the
positions of the data: all of it is in a checkpoint, so that a stage that was
stopped at any moment goes on as if it had not been.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from proxyless_jax.report import MetricsWriter, Progress
from proxyless_jax.run.config.options import RunOptions
from proxyless_jax.run.hosts import hosts
from proxyless_jax.run.hosts.preemption import deferred, shielded
from proxyless_jax.run.storage.checkpoint import Checkpoints
from proxyless_jax.run.storage.disk import explained
from proxyless_jax.run.storage.workdir import alone
from proxyless_jax.training.metrics import Mean, Metrics, merge

STAGES = ("search", "train")


@dataclasses.dataclass(frozen=True)
class Stage:
  """What the loop runs.

  Attributes:
    name: one of `STAGES`.
    steps: how many.
    batch: images per step.
    init: makes the state before the first step.
    iterators: of the data, by name; `advance` draws from them.
    metrics: the names of all metrics that `advance` may give.
    advance: takes the state and the number of the step, from 0, to the next
      state and metrics.
    units: of metrics, for people.

  Where the newest state alone is looked for, the iterators and `advance` are
  None.
  """

  name: str
  steps: int
  batch: int
  init: Callable[[], Any]
  iterators: Mapping[str, Any]
  metrics: tuple[str, ...]
  advance: Callable[[Any, int], tuple[Any, Metrics]] | None
  units: Mapping[str, str] = dataclasses.field(default_factory=dict)


def run_stage(
  stage: Stage, workdir: str | os.PathLike, options: RunOptions
) -> tuple[Any, float]:
  """Runs a stage from where it was to its end.

  Args:
    stage: what to run.
    workdir: holds its checkpoints and metrics.
    options: how often to log and to save.

  Returns:
    The last state, and the seconds that all starts spent in the stage.

  Raises:
    FloatingPointError: a metric or the state is not finite.
    OSError: the workdir cannot be written any more.
    Preempted: SIGTERM came, and a checkpoint of the last step is on disk.
    Interrupted: Ctrl-C came, likewise.
  """
  carry = _first_carry(stage)
  folder = _folder(stage, workdir)
  with (
    explained(workdir),
    _alone(workdir),
    _closing(stage),
    Checkpoints(folder, keep=options.keep) as checkpoints,
  ):
    step, carry = checkpoints.restore(carry, stage.iterators) or (0, carry)
    if step < stage.steps:
      carry = _go_on(stage, step, carry, checkpoints, workdir, options)
  return carry["state"], float(carry["seconds"])


def newest_state(stage: Stage, workdir, options: RunOptions) -> tuple | None:
  """(step, state) of the newest checkpoint of a stage; None without one."""
  folder = _folder(stage, workdir)
  if not os.path.isdir(folder):
    return None
  # A training may be going on there.
  opened = Checkpoints(folder, keep=options.keep, writes=False)
  with _closing(stage), opened as checkpoints:
    found = checkpoints.restore(_first_carry(stage), stage.iterators)
  return found and (found[0], found[1]["state"])


@contextlib.contextmanager
def _closing(stage: Stage):
  """Ends the threads and processes of the data, whatever happens."""
  try:
    yield
  finally:
    for iterator in stage.iterators.values():
      if iterator is not None:
        iterator.close()


def _alone(workdir):
  return alone(workdir) if hosts.first() else contextlib.nullcontext()


def _folder(stage: Stage, workdir) -> str:
  return os.path.join(workdir, "checkpoints", stage.name)


def _first_carry(stage: Stage) -> dict:
  return {
    "state": stage.init(),
    "metrics": _no_metrics(stage.metrics),
    "seconds": np.zeros((), np.float32),
  }


def _go_on(stage: Stage, step: int, carry, checkpoints, workdir, options):
  state, metrics = carry["state"], carry["metrics"]
  before = float(carry["seconds"])
  start = time.perf_counter()
  saved = step
  stop = False
  with (
    deferred() as told,
    _progress(stage, step) as progress,
    _writer(stage, step, workdir) as writer,
  ):
    if step:
      moved = checkpoints.moved
      progress.message(f"{stage.name}: resumed at step {step}{moved}")
    with shielded():
      for iterator in stage.iterators.values():
        iterator.start_prefetch()
    add = jax.jit(merge)
    logged = step
    while step < stage.steps and not stop:
      state, new = stage.advance(state, step)
      metrics = add(metrics, new)
      step += 1
      progress.update(step)
      stop = told()
      if step % options.log_every == 0 or step == stage.steps:
        values = _values(metrics)
        _check_finite(stage, values, max(saved, logged), step, saved)
        progress.log(step, values)
        writer.write(step, values)
        metrics, logged = _no_metrics(stage.metrics), step
      due = step % options.checkpoint_every == 0 or step == stage.steps
      if due or stop:
        with progress.pause():
          sums = _sums(state, metrics)
          _check_finite(stage, sums, max(saved, logged), step, saved)
          seconds = np.float32(before + time.perf_counter() - start)
          carry = {"state": state, "metrics": metrics, "seconds": seconds}
          checkpoints.save(step, carry, stage.iterators)
          saved = step
    checkpoints.wait()
  return carry


def _progress(stage: Stage, step: int):
  if not hosts.first():
    return _Quiet()
  return Progress(
    stage.name, stage.steps, step, batch=stage.batch, units=stage.units
  )


def _writer(stage: Stage, step: int, workdir):
  if not hosts.first():
    return _Quiet()
  return MetricsWriter(workdir, stage.name, step, stages=STAGES)


class _Quiet(contextlib.AbstractContextManager):
  """The progress and the metrics of a host that neither shows nor writes."""

  def update(self, *args) -> None:
    pass

  log = message = write = update

  def pause(self):
    return contextlib.nullcontext()

  def __exit__(self, *exception) -> None:
    pass


def _no_metrics(names) -> Metrics:
  zero = functools.partial(jnp.zeros, (), jnp.float32)
  return {name: Mean(zero(), zero()) for name in names}


def _values(metrics: Metrics) -> dict[str, float]:
  """The means, fetched from the device; names without a count are left out."""
  return {
    name: float(mean.total / mean.count)
    for name, mean in jax.device_get(metrics).items()
    if mean.count
  }


def _sums(state, metrics: Metrics) -> dict[str, float]:
  """What is finite where all of a state and of its metrics are."""
  sums = {name: float(mean.total) for name, mean in metrics.items()}
  return {"the state": 0.0 if _all_finite(state) else math.nan, **sums}


@jax.jit
def _all_finite(tree):
  leaves = [
    jnp.all(jnp.isfinite(leaf))
    for leaf in jax.tree.leaves(tree)
    if jnp.issubdtype(leaf.dtype, jnp.floating)
  ]
  return jnp.all(jnp.array(leaves))


def _check_finite(stage: Stage, values, good: int, step: int, saved: int):
  """Raises for values at `step` that are not finite, as all were at `good`."""
  wrong = [name for name, x in values.items() if not math.isfinite(x)]
  if wrong:
    checkpoint = (
      f"that of step {saved} is kept" if saved else "there is none yet"
    )
    raise FloatingPointError(
      f"stage {stage.name}, steps {good + 1} to {step}: {', '.join(wrong)} "
      "became NaN or infinite, so the run stopped (last good checkpoint: "
      f"{checkpoint}); look at the data, or start in a new workdir with lower "
      f"learning rates in config.{stage.name}"
    )
