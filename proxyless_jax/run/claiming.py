"""Claiming a workdir for a run: is it of the same config and the same images?

A start on a workdir continues with what is there. So a config may differ from
that of the last start only where this has a clear meaning, which is printed;
other changes are refused, and the error names the fields. `docs/resume.md` has
the rules.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from proxyless_jax.data.dataset import Dataset
from proxyless_jax.nas import gates, objective
from proxyless_jax.run.config.options import Options, as_json, function_name
from proxyless_jax.run.config.sections import TrainOptions
from proxyless_jax.run.hosts import hosts
from proxyless_jax.run.storage.contents import keep_contents
from proxyless_jax.run.storage.method import keep_method
from proxyless_jax.run.storage.workdir import claim, reached
from proxyless_jax.run.train_stage import train_steps

# Fields that may change between two starts on one workdir: always; before an
# architecture is derived by steps of its own, or trained; before the first step
# of the training; and after it.
MAY_DIFFER = (
  *("job", "run", "evaluate", "predict", "export"),
  *("data.path", "data.workers"),
  "random.count",
)
BEFORE_DERIVING = ("derive",)
BEFORE_TRAINING = ("train", "data.cutout")
IN_TRAINING = ("train.epochs",)
RANDOM = "random"  # Folder of trainings of random networks.


def claim_run(
  workdir: str | os.PathLike,
  options: Options,
  dataset: Dataset,
  own: Mapping[str, Any] | None = None,
) -> None:
  """Claims the workdir, and says what has changed since the last start.

  Args:
    workdir: folder of the run.
    options: the parsed config.
    dataset: the images of the config.
    own: arguments of a search that the config does not have, see `own_names`;
      None for other jobs.

  Raises:
    ValueError: the run cannot continue with this config, with these images, or
      by this method.
  """
  hosts.print_lines(
    hosts.on_first(lambda: _claim(workdir, options, dataset, own))
  )
  hosts.check_shared(workdir)


def own_names(
  draw: gates.Draw, terms: Sequence[objective.Term], tx: Any, arch_tx: Any
) -> dict[str, Any]:
  """Names of the functions and optimizers that a search is given in Python.

  Optimizers have no names: of them, the result says only whether there is one.

  Args:
    draw, terms, tx, arch_tx: as for `search_stage.search_stage`.

  Returns:
    Names by argument, of those that are not the defaults.
  """
  given: dict[str, Any] = {}
  if draw is not gates.draw:
    given["draw"] = function_name(draw)
  if terms:
    given["terms"] = [function_name(term) for term in terms]
  optimizers = {"tx": tx, "arch_tx": arch_tx}
  return given | {k: "given" for k, v in optimizers.items() if v is not None}


def _claim(workdir, options: Options, dataset: Dataset, own) -> list[str]:
  """Claims the workdir on the first host; gives the lines to print."""
  evaluates = options.job == "evaluate"
  step = reached(workdir).get("train")
  may_differ: tuple[str, ...] = MAY_DIFFER
  if not {"derive", "compare", "train"} & set(reached(workdir)):
    may_differ += BEFORE_DERIVING
  if not os.path.exists(os.path.join(workdir, RANDOM)):
    may_differ += ("random",)
    may_differ += BEFORE_TRAINING if step is None else IN_TRAINING
  if evaluates and not options.weights:
    may_differ += ("weights",)  # It evaluates what was trained from them.
  claimed = functools.partial(claim, workdir, as_json(options), may_differ)
  changes = claimed(keeps=False)
  stages = _stages(options.job, options.train.enabled)
  notes = keep_contents(workdir, dataset.names, dataset.contents, stages)
  if step is not None and not evaluates:
    assert dataset.train is not None  # Only an evaluation goes without.
    _check_reached(options.train, len(dataset.train), step, workdir)
  if own is not None:
    keep_method(workdir, own)
  # Last, since a start that is refused must leave the files as they are. An
  # evaluation changes nothing of the run that it looks at.
  if not evaluates:
    claimed()
  if not changes:
    return notes
  said = f"config, since the last start: {'; '.join(changes)}"
  goes_on = step is not None and not evaluates
  if goes_on and any(change.startswith(IN_TRAINING) for change in changes):
    said += (
      f"; the training continues at step {step}, with the learning rate that "
      "the new length gives that step"
    )
  return [said, *notes]


def _stages(job: str, trains: bool) -> list[str]:
  """The stages that a job runs; `trains`: a search goes on to a training."""
  stages = {"search": ["search"], "train": ["train"]}
  stages |= {"random": ["train"], "evaluate": []}
  return stages[job] + (["train"] if job == "search" and trains else [])


def _check_reached(
  train: TrainOptions, images: int, step: int, workdir: str | os.PathLike
) -> None:
  """Refuses a training that would end before the step that it has reached."""
  steps, _ = train_steps(train, images)
  if steps < step:
    least = math.ceil(100 * step * train.batch / images) / 100
    raise ValueError(
      f"train.epochs = {train.epochs}: expected {least} or more, since these "
      f"are {steps} steps, and the training in {os.fspath(workdir)} is at step "
      f"{step}: set more, or use another workdir"
    )
