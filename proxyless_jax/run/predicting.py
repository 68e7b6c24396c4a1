"""predict(): classifies image files by the network of a run that has ended."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from proxyless_jax.data.dataset import DECODED_FILES
from proxyless_jax.data.images import find_images
from proxyless_jax.data.sources import FolderSource
from proxyless_jax.parallel.mesh import check_devices
from proxyless_jax.report import Progress
from proxyless_jax.run.config.options import as_json, parse
from proxyless_jax.run.config.predict_options import PredictOptions
from proxyless_jax.run.config.space import own_ops
from proxyless_jax.run.finished import Run, load_run
from proxyless_jax.run.hosts import hosts
from proxyless_jax.run.storage.whole import whole_file
from proxyless_jax.run.storage.workdir import checked

HEADER = ("file", "class", "probability")


def predict(config: Mapping[str, Any], workdir: str | os.PathLike) -> dict:
  """Classifies `config.predict.images` by the network of an ended run.

  Writes a CSV file with a line for each image: the file, its most probable
  class, and the probability. Of the config only the sections `predict`,
  `evaluate` and `run` count, and `space` for operations of your own: network,
  weights, classes and the preparation of images are the run's.

  Args:
    config: a config, as for `search`.
    workdir: folder of a run that has ended; nothing else in it is changed.

  Returns:
    {'job', 'images', 'file'}: the number of images, and the path of the CSV.

  Raises:
    ValueError: a wrong config, a run that has not ended, no images, or images
      that cannot be read, all of which are named before any compute.
  """
  workdir = checked(workdir)
  check_devices()
  options = parse(config, "predict")
  hosts.refuse_several("job 'predict'")
  run = load_run(workdir, own_ops(options.space))
  evaluate = as_json(options)["evaluate"]
  run = dataclasses.replace(run, config={**run.config, "evaluate": evaluate})
  path = _out(options.predict, workdir)
  images = _images(options.predict, run.data.channels)
  _write(path, images, run, options.run.log_every)
  return {"job": "predict", "images": len(images), "file": path}


def _out(predict: PredictOptions, workdir: str) -> str:
  """The path of the CSV file."""
  path = os.path.join(workdir, predict.out)
  folder = os.path.dirname(path)
  if not os.path.isdir(folder) or os.path.isdir(path):
    raise ValueError(
      f"predict.out = {predict.out!r}: expected a file in a folder that "
      f"exists, got {path!r}: make the folder, or name another"
    )
  return path


def _images(predict: PredictOptions, channels: int) -> list[str]:
  """The files to classify, all of which can be decoded."""
  if not predict.images:
    raise ValueError(
      "predict.images = '': expected a folder of images, or a pattern: add "
      "--config.predict.images=FOLDER"
    )
  try:
    paths, notes = find_images(predict.images)
  except ValueError as error:
    raise ValueError(f"predict.images = {error}") from error
  if len(paths) > DECODED_FILES:
    notes.append(f"{predict.images}: checking that {len(paths):,} can be read")
  hosts.print_lines(notes)
  labels = np.zeros(len(paths), np.int32)
  files = FolderSource("", tuple(paths), labels, ("",), channels)
  damaged = list(files.damaged(decoding=True))
  hosts.print_lines(f"{path}: {why}" for path, why in damaged)
  if damaged:
    raise ValueError(
      f"predict.images = {predict.images!r}: expected images, but "
      f"{len(damaged)} of {len(paths)} files cannot be read, those named "
      "above: replace or remove them"
    )
  return paths


def _write(path: str, images: Sequence[str], run: Run, log_every: int) -> None:
  """Classifies images, and writes the CSV file."""
  batch = run.batch(len(images))
  steps = -(-len(images) // batch)
  with (
    # Names of files may be bytes that no text has.
    whole_file(
      path, newline="", encoding="utf-8", errors="surrogateescape"
    ) as file,
    Progress("predict", steps, batch=batch) as progress,
  ):
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(HEADER)
    for step, probabilities in enumerate(run.predict_batches(images)):
      names = images[step * batch : (step + 1) * batch]
      for name, row in zip(names, probabilities):
        best = row.argmax()
        rows.writerow((name, run.classes[best], f"{row[best]:.6f}"))
      progress.update(step + 1)
      if (step + 1) % log_every == 0 or step + 1 == steps:
        progress.log(step + 1, {})
