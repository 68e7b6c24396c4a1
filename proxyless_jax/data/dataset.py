"""From options to the parts of a dataset: weights, architecture, test.

A search learns its weights on one part of the training images and its
architecture on another (the paper, section 3.2); what it finds is trained on
both together, and tested on images that neither has seen.
"""

import dataclasses
import os

import numpy as np

from proxyless_jax.data.folders import folder_sources
from proxyless_jax.data.generated import GeneratedSource
from proxyless_jax.data.options import DataOptions
from proxyless_jax.data.sources import (
  FolderSource,
  Relabelled,
  listed,
  mnist_source,
)
from proxyless_jax.data.splits import stratified_split
from proxyless_jax.data.tfds import tfds_sources

# Some 20 seconds of decoding on two cores.
DECODED_FILES = 5000


@dataclasses.dataclass(frozen=True, eq=False)
class Subset:
  """Some images of a source.

  Attributes:
    source: see `sources`.
    indices: i64[n], positions in the source.
  """

  source: object
  indices: np.ndarray

  def __len__(self):
    return len(self.indices)

  def lacking(self):
    """The names of the source's classes that have no image here.

    Of a class without any image in the whole source, nothing is expected.
    """
    labels, names = self.source.labels, self.source.names
    counts = np.bincount(labels[self.indices], minlength=len(names))
    absent = np.setdiff1d(np.unique(labels), np.flatnonzero(counts))
    return [names[label] for label in absent]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """The parts of a dataset.

  Attributes:
    classes: how many there are.
    channels: of the images, 1 or 3.
    names: one per class.
    test: images in none of the other parts.
    train: the images that a network is trained on; None, and so the parts of
      it, where the test part alone was asked for.
    weights: of `train`, those that a search trains weights on.
    arch: of `train`, those that it trains the architecture on.
    notes: what a user should know of the images, a line each.
  """

  classes: int
  channels: int
  names: tuple[str, ...]
  test: Subset
  train: Subset | None = None
  weights: Subset | None = None
  arch: Subset | None = None
  notes: tuple[str, ...] = ()

  @property
  def contents(self) -> dict[str, dict]:
    """How many images there are, and a digest of them, wherever they are.

    Returns:
      {"train": {"images", "digest", "to_train"}, "test": {"images", "digest"}};
      without "test" where the test part is split from the same images, of
      which fewer are then `to_train`.
    """
    subsets = {}
    if self.train is not None:
      subsets["train"] = self.train
    if self.train is None or self.test.source is not self.train.source:
      subsets["test"] = self.test
    parts = {
      part: {"images": len(subset.source), "digest": subset.source.digest}
      for part, subset in subsets.items()
    }
    if self.train is not None:
      parts["train"]["to_train"] = len(self.train)
    return parts


def load(
  options: DataOptions,
  *,
  test_only: bool = False,
  names: tuple[str, ...] = (),
) -> Dataset:
  """Finds the images of a source and splits them, class by class.

  The test part is the source's own where it has one, of all or some of the
  classes; otherwise `test_fraction` of the images. Of the others,
  `arch_fraction` are `arch`.

  Args:
    options: where the images are, and how they are split.
    test_only: leave out what an evaluation does not need: a source with a test
      part of its own may then have nothing else.
    names: of the classes by label, as a network knows them; (): those of the
      source.

  Raises:
    ImportError: the package that a source needs is not installed.
    ValueError: the images are not where the options say, or too few, or cannot
      be read; or their classes are others than `names`.
  """
  source, test_source, notes = _sources(options)
  of_test_alone = test_only and test_source is not None
  if of_test_alone and names:
    source = None  # Whatever has become of it.
  source, test_source = _in_order(options, source, test_source, names, notes)
  of_any = test_source if source is None else source
  about = (of_any.classes, options.channels, of_any.names)
  if of_any.classes < 2:
    raise ValueError(
      f"{_where(options)}: expected images of two or more classes, found"
      f" {listed(of_any.names)} alone; add a class"
    )
  read = (test_source,) if of_test_alone else (source, test_source)
  _check_files(options, [s for s in read if s is not None], notes)
  if of_test_alone:
    test = Subset(test_source, np.arange(len(test_source)))
    return Dataset(*about, test, notes=tuple(notes))
  train, test = _split(options, source, test_source, notes)
  weights, arch = stratified_split(
    source.labels[train.indices],
    options.arch_fraction,
    options.split_seed,
    field="arch_fraction",
  )
  return Dataset(
    *about,
    test=test,
    train=train,
    weights=Subset(source, train.indices[weights]),
    arch=Subset(source, train.indices[arch]),
    notes=tuple(notes),
  )


def check_search(options: DataOptions, dataset: Dataset) -> list[str]:
  """Checks that a search sees an image of each class.

  Returns:
    What a user should know, a line each.

  Raises:
    ValueError: names classes that no weight would be trained on.
  """
  _check_lacking(
    options, dataset.weights, "to train the weights on", "arch_fraction"
  )
  if absent := dataset.arch.lacking():
    purpose = "to train the architecture on"
    return [f"{_where(options)}: no image {purpose} of {listed(absent)}"]
  return []


def _where(options):
  return options.name or options.path or options.source


def _check_lacking(options, subset, purpose, field):
  if absent := subset.lacking():
    raise ValueError(
      f"{_where(options)}: expected an image of each class {purpose}, found"
      f" none of {listed(absent)}, which have too few for"
      f" {field}={getattr(options, field)}; add images, remove these classes,"
      f" or lower {field}"
    )


def _split(options, source, test_source, notes):
  """The subsets to train and to test on."""
  if source is None:
    raise ValueError(
      f"{_where(options)}: expected images to train on, found a test part"
      " alone: add a train part, or evaluate only"
    )
  if test_source is not None:
    both = source, test_source
    return tuple(Subset(source, np.arange(len(source))) for source in both)
  parts = stratified_split(
    source.labels,
    options.test_fraction,
    options.split_seed,
    field="test_fraction",
  )
  train, test = (Subset(source, indices) for indices in parts)
  _check_lacking(options, train, "to train on", "test_fraction")
  if absent := test.lacking():
    notes.append(f"{_where(options)}: no image to test on of {listed(absent)}")
  return train, test


def _in_order(options, source, test_source, names, notes):
  """The sources with labels of one order: of `names`, or of `source`."""
  where = _where(options)
  if names and source is not None:
    source = _relabelled(source, names, where, of_run=True, some=False)
  if test_source is None:
    return source, None
  where = getattr(test_source, "root", where)
  known = names or (test_source if source is None else source).names
  absent = [name for name in known if name not in test_source.names]
  test_source = _relabelled(
    test_source, known, where, of_run=bool(names), some=True
  )
  if absent:
    notes.append(
      f"{where}: no images of {listed(absent)}: tests on the other"
      f" {len(known) - len(absent)} of {len(known)} classes"
    )
  return source, test_source


def _relabelled(source, names, where, *, of_run, some):
  """A source whose labels count `names`, of which it has all, or `some`.

  They are those that this run began with (`of_run`), or those of train.
  """
  own, names = source.names, tuple(names)
  if own == names:
    return source
  unknown = [name for name in own if name not in names]
  missing = [name for name in names if name not in own]
  if unknown or (missing and not some):
    of_whom = "this run (classes.json)" if of_run else "the images to train on"
    fix = (
      "give the classes these names again, or use a new workdir"
      if of_run
      else "rename or remove these class folders"
    )
    raise ValueError(
      f"{where}: expected the classes of {of_whom}, {listed(names, 10)}; found"
      f" {listed(own, 10)} (missing: {listed(missing)}; unknown:"
      f" {listed(unknown)}); {fix}"
    )
  return Relabelled(source, names)


def _sources(options):
  """The sources to train and to test on, of which one may be None; notes."""
  if options.source == "mnist":
    return mnist_source(options.channels), None, []
  if options.source == "generated":
    generated = GeneratedSource(
      options.generated_classes,
      options.generated_images,
      options.image_size,
      options.channels,
    )
    return generated, None, []
  if options.source == "folder":
    train, test, notes = folder_sources(options.path, options.channels)
    return train, test, list(notes)
  return *tfds_sources(options.name, options.path, options.channels), []


def _check_files(options, sources, notes):
  """Raises a ValueError that lists files which cannot be read.

  One would otherwise end a run where it is first read, which may be after the
  search. Files of 0 bytes are found in all sets. To decode the 1.3 million
  files of ImageNet would take the better part of an hour at every start: that
  is done in sets of up to `DECODED_FILES`.
  """
  damaged, total, where = [], 0, _where(options)
  for source in sources:
    source = getattr(source, "source", source)
    if not isinstance(source, FolderSource):
      continue
    total += len(source)
    decoding = len(source) <= DECODED_FILES
    damaged += source.damaged(decoding=decoding)
    if not decoding:
      notes.append(
        f"{source.root}: of {len(source)} images, those that cannot be decoded"
        " end the run when they are read; to find them before: python -m"
        f" proxyless_jax.data.check {source.root}"
      )
  if damaged:
    files = [f"{os.path.relpath(path, where)} ({why})" for path, why in damaged]
    raise ValueError(
      f"{where}: expected images, but {len(damaged)} of {total} files cannot be"
      f" read: {listed(files, 10)}; replace or remove them"
    )
