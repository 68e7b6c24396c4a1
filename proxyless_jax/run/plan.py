"""What a job says before it computes: a few aligned lines.

Each function gives the lines of one job. They are made when everything has
been checked, so that a run that is refused promises nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import jax

from proxyless_jax.data.dataset import Dataset
from proxyless_jax.hardware import split_quantity
from proxyless_jax.nas import objective
from proxyless_jax.nn import cpu_kernels
from proxyless_jax.report import format_value
from proxyless_jax.run.config.options import Options
from proxyless_jax.run.config.sections import CostOptions
from proxyless_jax.run.costs import WORDS
from proxyless_jax.run.derive_stage import evolved_paths
from proxyless_jax.run.loop import Stage
from proxyless_jax.run.train_stage import train_images, train_steps
from proxyless_jax.space import Network, macs, parameters

Rows = list[tuple[str, str]]


def lines_of(title: str, rows: Rows) -> list[str]:
  """Lines for people: a title, and below it names and texts in two columns."""
  width = max(len(name) for name, _ in rows)
  return [title, *(f"  {name:{width}}  {text}" for name, text in rows)]


def search_plan(
  options: Options,
  dataset: Dataset,
  space: Network,
  costs: Sequence[objective.Cost],
  stage: Stage,
  workdir: str | os.PathLike,
) -> list[str]:
  """What a search will do.

  Args:
    options: options of the run.
    dataset: all parts of the images.
    space: the search space.
    costs: the costs with their tables.
    stage: stage of the search.
    workdir: folder of the run.
  """
  rows = _of_space(options, dataset, space, costs)
  rows += [("search", _search(options, stage)), *_derive(options, space, costs)]
  if options.train.enabled:
    rows.append(("train", _train(options, dataset)))
  return lines_of(f"search in {os.fspath(workdir)}", rows)


def network_plan(
  options: Options,
  dataset: Dataset,
  network: Network,
  workdir: str | os.PathLike,
) -> list[str]:
  """What a training or an evaluation of an architecture will do.

  Args:
    options: options of the run.
    dataset: the images; of an evaluation, the test part is enough.
    network: the architecture.
    workdir: folder of the run.
  """
  name = options.network or "architecture.json of the workdir"
  counts = counts_of(parameters(network), macs(network))
  rows = [*_common(options, dataset), ("network", f"{name}: {counts}")]
  if options.weights:
    rows.append(("weights", options.weights))
  if options.job == "train":
    rows.append(("train", _train(options, dataset)))
  return lines_of(f"{options.job} in {os.fspath(workdir)}", rows)


def random_plan(
  options: Options,
  dataset: Dataset,
  space: Network,
  costs: Sequence[objective.Cost],
  count: int,
  done: int,
  workdir: str | os.PathLike,
) -> list[str]:
  """What the job 'random' will do.

  Args:
    options, dataset, space, costs, workdir: as for `search_plan`.
    count: number of networks.
    done: number of those that an earlier start has evaluated.
  """
  rows = _of_space(options, dataset, space, costs)
  networks = f"{count} networks"
  if count < options.random.count:
    networks += ", all that there are"
  if done:
    networks += f", of which {done} are done"
  rows += [("random", networks), ("train", f"each {_train(options, dataset)}")]
  return lines_of(f"random networks in {os.fspath(workdir)}", rows)


def counts_of(parameters: int, macs: int) -> str:
  """The counts of a network in words."""
  return f"{parameters:,} parameters, {macs:,} MACs"


def _of_space(
  options: Options, dataset: Dataset, space: Network, costs
) -> Rows:
  """The rows of a job that has a search space."""
  targets = _costs(options.search.costs, costs)
  return [*_common(options, dataset), *space_rows(space), *targets]


def space_rows(space: Network) -> Rows:
  """The size of a search space."""
  edges = [edge for edge in space.edges if len(edge.ops) > 1]
  most = max((len(edge.ops) for edge in edges), default=1)
  size = f"10^{space.log10_size:.1f} networks"
  return [
    ("space", f"{size}: {len(edges)} edges with up to {most} candidates each")
  ]


def _kernels(options: Options) -> str:
  """Whether training runs the kernels for CPUs, where they matter."""
  if jax.default_backend() != "cpu" or options.compute_dtype.name != "float32":
    return ""
  return f", with{'' if cpu_kernels.available() else 'out'} kernels in C++"


def _common(options: Options, dataset: Dataset) -> Rows:
  """The device, the data, and the number of images of each part."""
  device, data = jax.devices()[0], options.data
  where = f"{jax.device_count()} x {device.device_kind}"
  if jax.process_count() > 1:
    where += f" on {jax.process_count()} hosts"
  names = filter(None, (data.source, data.name, data.path))
  size = data.image_size
  height, width = (size, size) if isinstance(size, int) else size
  shape = f"{height}x{width}x{data.channels}"
  contents = f"{' '.join(names)}: {dataset.classes} classes, {shape}"
  return [
    ("device", f"{where}, {options.compute_dtype.name}{_kernels(options)}"),
    ("data", contents),
    ("images", _parts(options.job, dataset)),
  ]


def _parts(job: str, dataset: Dataset) -> str:
  """The number of images of each part that a job uses."""
  parts = {
    "search": {"weights": dataset.weights, "the architecture": dataset.arch}
  }.get(job, {})
  if job != "evaluate":
    parts["training"] = dataset.train
  parts["the test"] = dataset.test
  return ", ".join(
    f"{len(subset):,} for {what}"
    for what, subset in parts.items()
    if subset is not None
  )


def _costs(
  options: Mapping[str, CostOptions], costs: Sequence[objective.Cost]
) -> Rows:
  """A row for each cost, in the unit of its table."""
  rows = []
  for cost in costs:
    kind = "target" if isinstance(cost.form, objective.Target) else "cost"
    rows.append((kind, f"{cost.name}: {_cost(options[cost.name], cost)}"))
  return rows or [("target", "none: the search is for accuracy alone")]


def _cost(options: CostOptions, cost: objective.Cost) -> str:
  form = f"{options.form} with the reference"
  if isinstance(cost.form, objective.Target):
    form = WORDS[type(cost.form)]
  reference = getattr(cost.form, "target", None)
  if reference is None:
    reference = vars(cost.form)["reference"]
  if cost.table is None:
    _, unit = split_quantity(options.reference)
    return f"{form} {format_value(reference, unit)}, by a function"
  low, high = cost.table.min_cost, cost.table.max_cost
  return (
    f"{form} {format_value(reference, cost.table.unit)}; the space has "
    f"{format_value(low)} to {format_value(high, cost.table.unit)}"
  )


def _search(options: Options, stage: Stage) -> str:
  images = f"{stage.batch} images each"
  if stage.longer is None:
    return f"{stage.steps:,} steps of the weights alone, {images}"
  steps = stage.longer.steps
  warmup, arch = steps.start, options.search.arch
  return (
    f"{stage.steps:,} steps, {images}: {warmup:,} of the weights alone (warm-up"
    f"), then {stage.steps - warmup:,}, of which {len(steps):,} also train the "
    f"architecture, on {arch.batch} images"
  )


def _derive(
  options: Options, space: Network, costs: Sequence[objective.Cost]
) -> Rows:
  derive = options.derive
  rows = [("derive", "the most probable network within the targets")]
  if derive.method != "argmax":
    count, most = derive.paths, ""
    if derive.method == "evolution":
      count = evolved_paths(derive, space, costs)
      most = ", all that are within the target," if count < derive.paths else ""
    paths = f"{count:,} networks{most} on at most {derive.images:,} images"
    rows = [("derive", f"{derive.method}: {paths}, with the search's weights")]
  if derive.compare:
    targets = any(isinstance(cost.form, objective.Target) for cost in costs)
    near = " near the target" if targets else ""
    others = f"up to {derive.compare} random networks"
    rows.append(("compare", f"with {others}{near}"))
  return rows


def _train(options: Options, dataset: Dataset) -> str:
  steps, _ = train_steps(options.train, len(train_images(dataset)))
  return f"{steps:,} steps, {options.train.batch} images each"
