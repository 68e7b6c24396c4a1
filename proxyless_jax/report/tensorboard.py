"""Scalars, histograms, pictures and texts for TensorBoard.

Events go to `tensorboard/STAGE`, one folder per stage, because TensorBoard
purges by step only: resuming one stage would hide the steps of another in the
same folder.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from proxyless_jax.report.alpha import Alpha, probabilities
from proxyless_jax.report.figure import draw_architecture

if TYPE_CHECKING:
  from tensorboardX import SummaryWriter

  from proxyless_jax.space import Network

FOLDER = "tensorboard"
# Drawing takes a second for some networks, and may take this part of the time.
DRAWING = 0.02


def open_events(
  workdir: str | os.PathLike, stage: str, start_step: int
) -> SummaryWriter:
  """A writer that hides the events of `stage` after `start_step`.

  Args:
    workdir: folder of the run.
    stage: name of the folder below `tensorboard/`.
    start_step: step of the checkpoint that was restored; 0 for a fresh stage.
  """
  # Imported here: it takes a while, and only a run needs it.
  from tensorboardX import SummaryWriter

  folder = os.path.join(workdir, FOLDER, stage)
  earlier = len(os.listdir(folder)) if os.path.isdir(folder) else 0
  return SummaryWriter(
    # In a relative path, a part before a colon would be read as a protocol.
    os.path.abspath(folder),
    purge_step=start_step + 1 if start_step else 0,
    # A killed run loses events that are not flushed.
    flush_secs=5,
    # The file's name has whole seconds only; an existing file would be lost.
    filename_suffix=f".{earlier:04d}",
  )


def close_events(events: SummaryWriter) -> None:
  """Closes a writer of events, for good.

  After a failure, as on a full disk, the writer would try again at the exit of
  the program, with tracebacks after the error that explains them.
  """
  try:
    events.close()
  except OSError:
    files = events.file_writer
    worker = getattr(files.event_writer, "_worker", None)
    if worker is not None:
      worker.stop()
    files.event_writer = io.BytesIO()  # Something that can be closed.
    raise


class AlphaEvents:
  """Histograms of alpha, and pictures of the architecture that it favours."""

  def __init__(self, events: SummaryWriter, stage: str, space: Network) -> None:
    """Begins without a picture.

    Args:
      events: writer of the stage.
      stage: name of the stage, with which the tags begin.
      space: the search space.
    """
    self._events, self._stage, self._space = events, stage, space
    self._drawn: list[int] | None = None
    self._wait_until = 0.0

  def write(self, step: int, alpha: Alpha) -> None:
    """Writes the histograms; a picture where the favoured network is new."""
    probs = probabilities(alpha)
    histograms = {
      "alpha": np.concatenate([np.asarray(row) for row in alpha]),
      "largest_probability": np.array([row.max() for row in probs]),
    }
    for name, values in histograms.items():
      self._events.add_histogram(f"{self._stage}/{name}", values, step)
    index = [int(np.argmax(row)) for row in alpha]
    start = time.perf_counter()
    if index != self._drawn and start >= self._wait_until:
      tag = f"{self._stage}/most_probable_architecture"
      picture = _picture(self._space.choose(index))
      self._events.add_image(tag, picture, step, dataformats="HWC")
      self._drawn = index
      end = time.perf_counter()
      self._wait_until = end + (end - start) / DRAWING


def _picture(network: Network) -> np.ndarray:
  """u8[h, w, 3]."""
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "architecture")
    draw_architecture(network, f"{path}.svg", f"{path}.png")
    return _read_png(f"{path}.png")


def _read_png(path: str) -> np.ndarray:
  """u8[h, w, 3]."""
  from PIL import Image

  with Image.open(path) as image:
    return np.asarray(image.convert("RGB"))


def write_result_events(
  workdir: str | os.PathLike, result: Mapping[str, Any]
) -> None:
  """Writes a result to `tensorboard/result`: a table, and the architecture.

  Args:
    workdir: folder of the run, with the architecture.png of its network.
    result: contents of `result.json`; they replace an earlier text.
  """
  # TensorBoard purges texts by no step, so that the file must go.
  shutil.rmtree(os.path.join(workdir, FOLDER, "result"), ignore_errors=True)
  rows = [f"| {name} | {value} |" for name, value in result.items()]
  events = open_events(workdir, "result", 0)
  events.add_text(
    "result", "\n".join(["| field | value |", "|---|---|", *rows])
  )
  path = os.path.join(workdir, "architecture.png")
  if os.path.exists(path):
    events.add_image("architecture", _read_png(path), dataformats="HWC")
  close_events(events)
