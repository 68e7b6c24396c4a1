"""Taking a workdir for a run: is it of the same config, of the same images?

A start on a workdir goes on with what is there. So a config may differ from the
last start's only where that has a clear meaning, which is said in a line; all
else is refused, with the fields named. `docs/resume.md` has the rules.
"""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Iterable

from proxyless_jax.run.config.options import Options, as_json
from proxyless_jax.run.hosts import hosts
from proxyless_jax.run.storage.contents import keep_contents
from proxyless_jax.run.storage.workdir import claim, reached
from proxyless_jax.run.train_stage import train_steps

# What may change between two starts on one workdir: always; before the first
# step of the training; and after it.
MAY_DIFFER = ("job", "run", "data.path", "data.workers", "evaluate")
BEFORE_TRAINING = ("train", "data.cutout")
IN_TRAINING = ("train.epochs",)


def take(workdir, options: Options, dataset) -> None:
  """Takes the workdir, and says what is another than at the last start.

  Args:
    workdir: of the run.
    options: config of this start.
    dataset: what its data are.

  Raises:
    ValueError: another config, or other images, than a run can go on with.
  """
  say(hosts.on_first(lambda: _claim(workdir, options, dataset)))
  hosts.check_shared(workdir)


def say(notes: Iterable[str]) -> None:
  """Prints lines for the user, on the first of several hosts."""
  if hosts.first():
    for note in notes:
      print(note, file=sys.stderr, flush=True)


def _claim(workdir, options: Options, dataset) -> list[str]:
  """What `take` does on the first host; gives what it says."""
  evaluates = options.job == "evaluate"
  step = reached(workdir).get("train")
  may_differ = MAY_DIFFER
  may_differ += BEFORE_TRAINING if step is None else IN_TRAINING
  if evaluates and not options.weights:
    may_differ += ("weights",)  # Those that were trained from them.
  claimed = functools.partial(claim, workdir, as_json(options), may_differ)
  changes = claimed(keeps=False)
  about = dataset.names, dataset.contents, _stages(options)
  notes = keep_contents(workdir, *about)
  if step is not None and not evaluates:
    _check_reached(options, len(dataset.train), step, workdir)
  # Last, since a start that is refused goes on with nothing. An evaluation
  # changes nothing of the run that it looks at.
  if not evaluates:
    claimed()
  if not changes:
    return notes
  said = f"config, since the last start: {'; '.join(changes)}"
  goes_on = step is not None and not evaluates
  if goes_on and any(change.startswith(IN_TRAINING) for change in changes):
    said += (
      f"; the training goes on at step {step}, with the learning rate that "
      "the new length gives that step"
    )
  return [said, *notes]


def _stages(options: Options) -> list[str]:
  """Those that the job runs."""
  stages = {"search": ["search"], "train": ["train"], "evaluate": []}
  also = ["train"] if options.job == "search" and options.train.enabled else []
  return stages[options.job] + also


def _check_reached(options: Options, images: int, step: int, workdir) -> None:
  """Refuses a training that would end before the step that it is at."""
  train = options.train
  steps, _ = train_steps(train, images)
  if steps < step:
    least = math.ceil(100 * step * train.batch / images) / 100
    raise ValueError(
      f"train.epochs = {train.epochs}: expected {least} or more, since these "
      f"are {steps} steps, and the training in {os.fspath(workdir)} is at step "
      f"{step}: set more, or use another workdir"
    )
