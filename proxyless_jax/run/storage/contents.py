"""What a workdir knows of its images: the classes by label, and which they are.

`classes.json` lists the names of the classes by label; a network's outputs have
no other meaning. `data.json` says how many images each stage began with, and
holds a digest of their names: with others, a stage that goes on would be
another experiment, and a test part might hold images that were trained on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from proxyless_jax.run.storage.workdir import read_json, write_json

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
  """Writes what the images are, or compares with what was written.

  Of several hosts, one calls.

  Args:
    workdir: of the run; exists.
    names: of the classes, by label.
    contents: of the images, as `Dataset.contents`.
    stages: those of `STAGES` that the job runs; none for an evaluation.

  Returns:
    What a user should know, a line each.

  Raises:
    ValueError: a stage that has begun would go on with other images, or be
      tested on images that it may have learned.
  """
  path = os.path.join(workdir, DATA_FILE)
  kept = read_json(path) if os.path.exists(path) else {}
  now = dict(kept)
  # Split from the same images, the test part is another one of others.
  split = "test" not in contents
  for stage in STAGES if split else stages:
    begun = stage in kept and _has_begun(workdir, stage)
    if begun and kept[stage] != contents["train"]:
      raise ValueError(
        f"{os.path.abspath(workdir)}: expected the images that stage {stage} "
        f"began with, got {_difference(kept[stage], contents['train'])}; bring "
        "them back, or use a new workdir"
      )
    if stage in stages:
      now[stage] = contents["train"]
  notes = []
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


def _has_begun(workdir, stage: str) -> bool:
  """Whether there is a checkpoint to go on from."""
  folder = os.path.join(workdir, "checkpoints", stage)
  return os.path.isdir(folder) and any(map(str.isdigit, os.listdir(folder)))


def _difference(then: Mapping, now: Mapping) -> str:
  if then["images"] != now["images"]:
    return f"{now['images']} images, not {then['images']}"
  if then["digest"] != now["digest"]:
    return f"as many, {now['images']}, but with other names"
  return (
    f"{now['to_train']} to train on, not {then['to_train']}, since a test part "
    "was added or removed"
  )
