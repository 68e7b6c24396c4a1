"""Opening a run: reads its config, finds its images, checks that they fit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from proxyless_jax.data import DataOptions, check_search, load
from proxyless_jax.data.dataset import Dataset, Subset
from proxyless_jax.parallel.mesh import check_devices, check_shared, shared_by
from proxyless_jax.run.config import fields
from proxyless_jax.run.config.options import Options, as_json, parse
from proxyless_jax.run.config.sections import (
  ArchOptions,
  SearchOptions,
  TrainOptions,
)
from proxyless_jax.run.hosts import hosts
from proxyless_jax.run.hosts.spawning import check_main
from proxyless_jax.run.storage.compilation import keep_compiled
from proxyless_jax.run.storage.contents import kept_classes

# A section of the config that has a batch.
Section = TrainOptions | SearchOptions | ArchOptions


def open_run(
  config: Mapping[str, Any], workdir: str | os.PathLike, job: str
) -> tuple[Options, Dataset]:
  """The options of a config, and the dataset that it names.

  Args:
    config: a `ConfigDict`, or nested dicts.
    workdir: folder of the run; its `classes.json`, if there is one, gives the
      order of the classes.
    job: job that is run.

  Raises:
    ValueError: a wrong field, wrong data, or batches that the data or the
      devices cannot fill.
  """
  check_devices()
  keep_compiled()
  options = parse(config, job)
  check_main(options.data.workers)
  hosts.check_same("config", as_json(options))
  names = hosts.on_first(lambda: kept_classes(workdir))
  with fields.in_section("data", DataOptions):
    dataset = load(
      options.data, test_only=options.job == "evaluate", names=tuple(names)
    )
  hosts.check_same("data", {"classes": dataset.names, **dataset.contents})
  hosts.print_lines(dataset.notes)
  if options.job == "search":
    with fields.in_section("data", DataOptions):
      hosts.print_lines(check_search(options.data, dataset))
  check_batches(options, dataset)
  return options, dataset


def check_batches(options: Options, dataset: Dataset) -> None:
  """Checks that data and devices can fill the batches of every stage.

  All at once: an error of the training would otherwise come after the search.

  Raises:
    ValueError: a batch is larger than its split, or no multiple of the devices
      and parts that share it.
  """
  sections: dict[str, tuple[Section, Subset | None]] = {}
  if options.job != "evaluate":
    sections["train"] = (options.train, dataset.train)
  if options.job == "search":
    sections["search"] = (options.search, dataset.weights)
    sections["search.arch"] = (options.search.arch, dataset.arch)
  large = {
    name: (section, len(subset))
    for name, (section, subset) in sections.items()
    if subset is not None and section.batch > len(subset)
  }
  if large:
    raise ValueError(_too_large(large))
  for name, (section, _) in sections.items():
    check_shared(f"{name}.batch", section.batch, section.parts)


def _too_large(large: Mapping[str, tuple[Section, int]]) -> str:
  """The message for batches above their splits, with flags that would do.

  Args:
    large: section of the config and number of images in the split, by name.
  """
  problems, flags = [], []
  for name, (section, images) in large.items():
    problems.append(f"{name}.batch = {section.batch} of {images}")
    fitting = images - images % shared_by(section.parts)
    if not fitting:
      fitting = images - images % shared_by(1)
      flags.append(f"--config.{name}.grad_accum=1")
      if section.parts != section.grad_accum:
        flags.append(f"--config.{name}.paths=1")
    if not fitting:
      return f"{'; '.join(problems)}: fewer images than devices: use fewer"
    flags.append(f"--config.{name}.batch={fitting}")
  return (
    f"{', '.join(problems)} images: expected batches of at most the images of "
    f"their splits: use more images, or {' '.join(flags)}"
  )
