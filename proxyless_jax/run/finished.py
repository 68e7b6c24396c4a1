"""A run that has ended, loaded from its workdir: network, weights, classes.

    run = pj.load_run("runs/mnist")
    run.predict("photo.jpg")  # f32[1, classes]

What is loaded is what was evaluated, bit for bit: each job that ends with an
evaluation keeps its variables (`storage.variables`). Images are prepared by the
pipeline of the evaluation.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from proxyless_jax.data import DataOptions, eval_batches
from proxyless_jax.data.dataset import Subset
from proxyless_jax.data.images import Images, unlabelled
from proxyless_jax.nn import build
from proxyless_jax.parallel.mesh import (
  host_share,
  make_mesh,
  place,
  round_up,
  to_devices,
)
from proxyless_jax.report.metrics import STAGES
from proxyless_jax.run.config.options import Options, parse
from proxyless_jax.run.result import FILE as RESULT_FILE
from proxyless_jax.run.result import read_result
from proxyless_jax.run.storage import variables as kept
from proxyless_jax.run.storage.compilation import keep_compiled
from proxyless_jax.run.storage.contents import CLASSES_FILE, kept_classes
from proxyless_jax.run.storage.json_files import read_fields
from proxyless_jax.run.storage.workdir import CONFIG_FILE, checked, reached
from proxyless_jax.space import Network, Op, load_network, parameters
from proxyless_jax.training.steps import predict_step

NETWORK_FILE = "architecture.json"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Run:
  """A run that has ended; `load_run` makes it.

  Attributes:
    network: the architecture that was evaluated.
    variables: {'params', 'batch_stats'} of `pj.build(network)`, as they were
      evaluated.
    classes: names of the classes, in the order of the network's outputs.
    config: contents of config.json. A dict and not `Options`: operations and
      functions of your own have only their names there.
    result: contents of result.json.
  """

  network: Network
  variables: dict
  classes: tuple[str, ...]
  config: dict[str, Any]
  result: dict[str, Any]

  def __repr__(self) -> str:
    return (
      f"Run({len(self.classes)} classes, {parameters(self.network):,} "
      f"parameters, test accuracy {100 * self.result['top1']:.2f} %)"
    )

  @property
  def data(self) -> DataOptions:
    """How images are prepared: size, channels, crop, mean and std."""
    return self._options.data

  def predict(self, images: Images) -> np.ndarray:
    """Classifies images, prepared as those of the run's own evaluation.

    The pass is compiled for batches of the config's evaluate.batch; for fewer
    images, for the next power of two.

    Args:
      images: uint8[b, h, w, c]; the name of a file; or a list of arrays
        uint8[h, w, c] or uint8[h, w], which may differ in size, and of names
        of files. Colours become grey and grey becomes colours where the
        network needs it, and files are turned as their EXIF says.

    Returns:
      f32[b, classes], the probabilities of `classes`.

    Raises:
      ValueError: images of another type or shape, or a file that is none.
    """
    rows = list(self.predict_batches(images))
    none = np.zeros((0, len(self.classes)), np.float32)
    return np.concatenate([none, *rows])

  def predict_batches(self, images: Images) -> Iterator[np.ndarray]:
    """As `predict`, batch by batch, for more images than memory holds.

    Args:
      images: as for `predict`; they are checked at the first batch.

    Yields:
      f32[b, classes], where the last b may be smaller.
    """
    source = unlabelled(images, self.data.channels)
    if not source.images:
      return
    batch = self.batch(len(source))
    # Threads decode: worker processes would import a script that calls this.
    data = dataclasses.replace(self.data, workers=0)
    batches = eval_batches(
      Subset(source, np.arange(len(source))),
      data,
      batch=batch,
      share=host_share(),
    )
    compute, variables, mesh = self._compiled
    starts = range(0, len(source), batch)
    for batch_of_images, start in zip(batches, starts):
      probabilities = compute(variables, to_devices(batch_of_images, mesh))
      yield np.asarray(probabilities)[: len(source) - start]

  def batch(self, images: int) -> int:
    """Images per step, for so many: one photo should not cost a batch.

    Args:
      images: number of images, 1 or more.
    """
    power = 1 << (images - 1).bit_length()
    return round_up(min(power, self._options.evaluate.batch))

  @functools.cached_property
  def _options(self) -> Options:
    """The parsed sections that predictions depend on."""
    names = ("dtype", "data", "evaluate")
    return parse({name: self.config[name] for name in names})

  @functools.cached_property
  def _compiled(self) -> tuple[Callable, dict, Mesh | None]:
    """The jitted step, the variables on its devices, and their mesh."""
    mesh = make_mesh()
    module = build(self.network, dtype=self._options.compute_dtype)
    step = functools.partial(predict_step, module=module, mesh=mesh)
    return jax.jit(step), place(self.variables, mesh), mesh


def load_run(workdir: str | os.PathLike, ops: Iterable[Op] = ()) -> Run:
  """Loads a run that has ended: what was evaluated, and how it was judged.

  The run may have been a search, a training or an evaluation. While a new job
  runs in its workdir, the last one that ended is loaded.

  Args:
    workdir: folder of the run.
    ops: operations of your own that its network has.

  Raises:
    ValueError: no workdir, a run that has not ended, or files in it that do
      not belong together; says what to do.
  """
  workdir = checked(workdir)
  config = _config(workdir)
  found, result = kept.kept_variables(workdir), read_result(workdir)
  if found is None or result is None or "top1" not in result:
    raise ValueError(_not_ended(workdir, result))
  path = os.path.join(workdir, NETWORK_FILE)
  if not os.path.exists(path) or read_fields(path) != found.network:
    raise ValueError(
      f"{os.path.join(workdir, kept.FILE)}: has weights of another network "
      f"than {NETWORK_FILE}, as after a job that was stopped or a file that "
      f"was changed: {kept.REMEDY}"
    )
  if any(result.get(name) != value for name, value in found.scores.items()):
    raise ValueError(
      f"{os.path.join(workdir, kept.FILE)}: has other weights than those that "
      f"{RESULT_FILE} describes, as after a job that was stopped: {kept.REMEDY}"
    )
  network = load_network(path, ops)
  classes = tuple(kept_classes(workdir))
  if len(classes) != network.classes:
    raise ValueError(
      f"{os.path.join(workdir, CLASSES_FILE)}: expected the names of "
      f"{network.classes} classes, those of the network, got {len(classes)}: "
      "restore the file"
    )
  keep_compiled()
  return Run(network, found.variables, classes, config, result)


def _config(workdir: str) -> dict[str, Any]:
  """The contents of a workdir's config.json."""
  path = os.path.join(workdir, CONFIG_FILE)
  if os.path.exists(path):
    return read_fields(path)
  if os.path.isfile(workdir):
    problem = "got a file"
  elif not os.path.isdir(workdir):
    problem = "there is no such folder"
  elif os.path.exists(os.path.join(workdir, RESULT_FILE)):
    problem = f"got one without {CONFIG_FILE}, such as that of a measurement"
  else:
    problem = f"got one without {CONFIG_FILE}"
  raise ValueError(
    f"workdir = {workdir}: expected the folder of a search, a training or an "
    f"evaluation, {problem}: name the --workdir of such a run"
  )


def _not_ended(workdir: str, result: dict[str, Any] | None) -> str:
  """The message for a run without the weights of its evaluation."""
  if result is not None and "top1" in result:
    return (
      f"workdir = {workdir}: expected {kept.FILE} beside {RESULT_FILE}, found "
      f"none, as after a run of an earlier release: {kept.REMEDY}"
    )
  newest = reached(workdir)
  steps = [f"step {newest[s]} of {s}" for s in STAGES if s in newest]
  return (
    f"workdir = {workdir}: expected a run that has ended, got one that has "
    f"reached {', '.join(steps) or 'no checkpoint'}: run the same command "
    "again, which continues from there, and load it when it has ended"
  )
