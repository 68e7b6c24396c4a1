"""export(): the network of a run that has ended, for other runtimes.

    run = pj.load_run("runs/mnist")
    pj.export(run, "network.onnx")

A file is written only after the runtime that it is for, where that is
installed, has computed our logits from it.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from proxyless_jax.data import eval_batches, load
from proxyless_jax.data.dataset import Subset
from proxyless_jax.exchange.formats import FORMATS, Format, check_export
from proxyless_jax.exchange.normalisation import Normalisation
from proxyless_jax.exchange.onnx import to_onnx
from proxyless_jax.exchange.onnx_int8 import import_quantization, to_int8
from proxyless_jax.exchange.runtimes import Logits, logits_of
from proxyless_jax.parallel.mesh import check_devices, host_share
from proxyless_jax.run.config.options import parse
from proxyless_jax.run.config.space import own_ops
from proxyless_jax.run.finished import Run, load_run
from proxyless_jax.run.hosts import hosts
from proxyless_jax.run.storage.json_files import read_fields, write_json
from proxyless_jax.run.storage.whole import whole_file
from proxyless_jax.run.storage.workdir import checked
from proxyless_jax.run.story import summary
from proxyless_jax.space.checks import expect

FILE = "export.json"
# Largest difference of logits, over the largest of them.
TOLERANCE = 1e-4
# Images that logits are compared on, and that ranges for int8 are found on.
COMPARED, CALIBRATION, BATCH = 4, 256, 32
# Forward passes of one image that are timed, after as many as warm-up.
WARMUP, TIMED = 3, 20


def export(
  run: Run,
  path: str | os.PathLike,
  *,
  preprocess: bool = False,
  quantize: bool = False,
) -> dict:
  """Writes the network of a run in the format of the path's ending.

  .onnx, .stablehlo and .tflite compute logits; .safetensors and .pth have the
  weights. Logits are compared with ours by the format's own runtime, on the
  CPU, where that is installed, and a line is printed.

  Args:
    run: a run, as `load_run` gives it.
    path: path of the file, which is replaced.
    preprocess: whether the file reads pixels uint8[b, h, w, c] of the network's
      image size and normalises them as the run did; else it reads normalised
      images f32[b, h, w, c].
    quantize: whether an .onnx file computes in int8, with ranges of activations
      from training images of the run; its accuracy on the test images is then
      measured.

  Returns:
    {'job', 'file', 'format', 'preprocess', 'quantize', 'bytes', 'runtime',
    'checked'}, and, where it was checked, 'difference' of the logits over the
    largest of them, 'latency_ms' of one image for files that compute, and
    'top1', 'top1_before' and 'images' with `quantize`; else 'why' it was not.

  Raises:
    ValueError: an unknown ending, a folder that does not exist, options that do
      not fit the format, a network that the format cannot have, or logits that
      differ by more than 1e-4: nothing is written.
    ImportError: an extra that writing needs is not installed.
  """
  expect(isinstance(run, Run), "run", run, "what pj.load_run(workdir) gives")
  result = _export(run, "path", path, preprocess=preprocess, quantize=quantize)
  print(summary(result, ""))
  return result


def export_job(config: Mapping[str, Any], workdir: str | os.PathLike) -> dict:
  """Job 'export': `export` by the section `export` of a config.

  Also writes export.json, with an entry for each file that was exported. Of the
  config only the sections `export`, and `space` for operations of your own,
  count: all else is the run's.

  Args:
    config: a config, as for `search`.
    workdir: folder of a run that has ended; nothing else in it is changed.

  Returns, raises: as `export`; and a ValueError for a run that has not ended.
  """
  workdir = checked(workdir)
  check_devices()
  options = parse(config, "export")
  hosts.refuse_several("job 'export'")
  run = load_run(workdir, own_ops(options.space))
  fields = dataclasses.asdict(options.export)
  path = os.path.join(workdir, fields.pop("path"))
  index = os.path.join(workdir, FILE)
  known = read_fields(index) if os.path.exists(index) else {}
  result = _export(run, "export.path", path, **fields)
  name = os.path.relpath(path, workdir)
  write_json(index, {**known, name: result})
  return result


def _export(
  run: Run,
  field: str,
  path: str | os.PathLike,
  *,
  preprocess: bool,
  quantize: bool,
) -> dict:
  """`export`, without the line; `field` is the name of the path in errors."""
  ending = check_export(field, path, preprocess=preprocess, quantize=quantize)
  path = _in_a_folder(field, path)
  make = _in_int8 if quantize else _in_float
  data, found = make(run, FORMATS[ending], preprocess)
  exact = found["checked"] and not quantize
  if exact and not found["difference"] <= TOLERANCE:  # Nor is NaN.
    raise ValueError(
      f"{field} = {path!r}: the logits of {found['runtime']} differ by "
      f"{found['difference']:.1e} of the largest from the network's: expected "
      f"at most {TOLERANCE:.0e}: the rule of an operation of your own may not "
      "compute what its module does; nothing was written"
    )
  with whole_file(path, "wb") as file:
    file.write(data)
  return {
    "job": "export",
    "file": path,
    "format": ending,
    "preprocess": preprocess,
    "quantize": quantize,
    "bytes": len(data),
    **found,
  }


def _in_a_folder(field: str, path: str | os.PathLike) -> str:
  """A path with `~` expanded; a ValueError where it can be no file."""
  path = os.path.expanduser(os.fspath(path))
  folder = os.path.dirname(path) or os.curdir
  if not os.path.isdir(folder) or os.path.isdir(path):
    raise ValueError(
      f"{field} = {path!r}: expected a file in a folder that exists: make the "
      "folder, or name another"
    )
  return path


def _texts(run: Run) -> dict[str, str]:
  """What a file of weights says beside them."""
  data = run.data
  return {
    "classes": json.dumps(run.classes),
    "mean": json.dumps(data.mean),
    "std": json.dumps(data.std),
  }


def _in_float(run: Run, kind: Format, preprocess: bool) -> tuple[bytes, dict]:
  """The contents of a file, and how it was checked."""
  inside = _normalisation(run) if preprocess else None
  data = kind.write(run.network, run.variables, inside, _texts(run))
  shape = (COMPARED, *run.network.image_shape)
  pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  return data, _check(run, kind, data, pixels, preprocess)


def _in_int8(run: Run, kind: Format, preprocess: bool) -> tuple[bytes, dict]:
  """As `_in_float`, with ranges from training images, and the accuracy."""
  import_quantization()
  dataset = load(run.data, names=run.classes)
  assert dataset.train is not None  # Only a test alone is loaded without it.
  indices, count = dataset.train.indices, min(CALIBRATION, len(dataset.train))
  # From all over the images: folders are sorted by class.
  spread = np.linspace(0, len(indices) - 1, count).astype(int)
  images = Subset(dataset.train.source, indices[spread])
  inside = _normalisation(run) if preprocess else None
  options: dict[str, Any] = dict(batch=None, normalisation=inside)
  model = to_onnx(run.network, run.variables, **options)
  data = to_int8(model, (seen for seen, _ in _batches(run, images, inside)))
  # Noise would be outside the ranges of images.
  tests = _batches(run, dataset.test, _normalisation(run))
  found = _check(run, kind, data, next(tests)[0][:COMPARED], preprocess)
  compute = kind.read(data, run.network)
  return data, found | _accuracy(run, dataset.test, compute, inside)


def _normalisation(run: Run) -> Normalisation:
  return Normalisation(run.data.mean, run.data.std)


def _check(
  run: Run, kind: Format, data: bytes, pixels: np.ndarray, preprocess: bool
) -> dict:
  """Compares a file's logits of some images with ours, and times it."""
  try:
    compute = kind.read(data, run.network)
  except ImportError as error:
    return {"runtime": kind.runtime, "checked": False, "why": str(error)}
  images = _normalisation(run).normalise(pixels)
  own = logits_of(run.network, run.variables)(images)
  seen = pixels if preprocess else images
  largest = max(np.abs(own).max(), np.finfo(np.float32).tiny)
  found = {
    "runtime": _runtime(kind),
    "checked": True,
    "difference": float(np.abs(compute(seen) - own).max() / largest),
  }
  if kind.computes:
    found["latency_ms"] = _latency(compute, seen[:1])
  return found


def _runtime(kind: Format) -> str:
  """Name and version of a runtime."""
  try:
    return f"{kind.runtime} {importlib.metadata.version(kind.package)}"
  except importlib.metadata.PackageNotFoundError:
    return kind.runtime  # It came by another name, such as onnxruntime-gpu.


def _latency(compute: Logits, image: np.ndarray) -> float:
  """Median time of a forward pass, in ms."""
  times = []
  for _ in range(WARMUP + TIMED):
    start = time.perf_counter()
    compute(image)
    times.append(time.perf_counter() - start)
  return round(1000 * statistics.median(times[WARMUP:]), 4)


def _accuracy(
  run: Run,
  tests: Subset,
  compute: Logits,
  normalisation: Normalisation | None,
) -> dict:
  """Accuracy of a file on test images, beside that of the run."""
  hits = sum(
    int(np.sum(compute(seen).argmax(1) == labels))
    for seen, labels in _batches(run, tests, normalisation)
  )
  before = float(run.result["top1"])
  count = len(tests)
  return {"top1": hits / count, "top1_before": before, "images": count}


def _batches(
  run: Run, images: Subset, normalisation: Normalisation | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Images as a file reads them, prepared as for an evaluation, and labels."""
  # Threads decode: worker processes would import a script that calls this.
  data = dataclasses.replace(run.data, workers=0)
  for batch in eval_batches(images, data, batch=BATCH, share=host_share()):
    count = int(batch["mask"].sum())
    seen, labels = batch["image"][:count], batch["label"][:count]
    yield normalisation.pixels(seen) if normalisation else seen, labels
