"""The files of a workdir that describe its images: classes and digests.

`classes.json` lists the names of the classes by label, which give a network's
outputs their meaning. `data.json` has the number of images that each stage
began with and a digest of their names: with other images, a resumed stage
would be another experiment, and a test part might contain training images.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from proxyless_jax.run.storage.json_files import read_json, write_json
from proxyless_jax.run.storage.workdir import reached

CLASSES_FILE, DATA_FILE = "classes.json", "data.json"
STAGES = ("search", "train")


def kept_classes(workdir: str | os.PathLike) -> list[str]:
  """The names in `classes.json`; none where there is no such file.

  Raises:
    ValueError: it holds anything else.
  """
  path = os.path.join(workdir, CLASSES_FILE)
  if not os.path.exists(path):
    return []
  names = read_json(path)
  if not (isinstance(names, list) and all(isinstance(x, str) for x in names)):
    raise ValueError(
      f"{path}: expected a list of the names of the classes, by label; restore "
      "the file"
    )
  return names


def keep_contents(
  workdir: str | os.PathLike,
  names: Sequence[str],
  contents: Mapping[str, Mapping],
  stages: Sequence[str],
) -> list[str]:
  """Writes the classes and digests, or compares them with those written.

  Of several hosts, one calls.

  Args:
    workdir: folder of the run, which exists.
    names: names of the classes, by label.
    contents: number and digest of the images, as `Dataset.contents`.
    stages: the stages that the job runs; none for an evaluation.

  Returns:
    What a user should know, a line each.

  Raises:
    ValueError: a stage that has begun would continue with other images, or be
      tested on images that it may have learned.
  """
  path = os.path.join(workdir, DATA_FILE)
  kept = read_json(path) if os.path.exists(path) else {}
  # A test part that is split from the training images changes with them.
  split = "test" not in contents
  _check_begun(workdir, kept, contents, STAGES if split else stages)
  now, notes = dict(kept), []
  for stage in stages:
    now[stage] = contents["train"]  # Absent where no stage needs it.
  if not split:
    now["test"] = contents["test"]
    if "test" in kept and kept["test"] != now["test"]:
      difference = _difference(kept["test"], now["test"])
      notes.append(f"data: tests on other images than before: {difference}")
  if not os.path.exists(os.path.join(workdir, CLASSES_FILE)):
    write_json(os.path.join(workdir, CLASSES_FILE), list(names))
  if now != kept:
    write_json(path, now)
  return notes


def _check_begun(workdir, kept: Mapping, contents, stages) -> None:
  """Refuses other images than a stage with a checkpoint began with."""
  for stage in stages:
    begun = stage in kept and stage in reached(workdir)
    if begun and kept[stage] != contents["train"]:
      raise ValueError(
        f"{os.path.abspath(workdir)}: expected the images that stage {stage} "
        f"began with, got {_difference(kept[stage], contents['train'])}; bring "
        "them back, or use a new workdir"
      )


def _difference(then: Mapping, now: Mapping) -> str:
  if then["images"] != now["images"]:
    return f"{now['images']} images, not {then['images']}"
  if then["digest"] != now["digest"]:
    return f"as many, {now['images']}, but with other names"
  return (
    f"{now['to_train']} to train on, not {then['to_train']}, since a test part "
    "was added or removed"
  )
