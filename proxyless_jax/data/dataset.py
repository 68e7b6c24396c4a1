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
from proxyless_jax.data.photo_digits import CopiesSource, photo_digits_source
from proxyless_jax.data.sources import (
  FolderSource,
  Relabelled,
  Source,
  listed,
  mnist_source,
)
from proxyless_jax.data.splits import stratified_split
from proxyless_jax.data.tfds import tfds_sources

# Decoding so many takes about 20 seconds on two cores.
DECODED_FILES = 5000


@dataclasses.dataclass(frozen=True, eq=False)
class Subset:
  """Some images of a source.

  Attributes:
    source: the images, of which the subset is a part.
    indices: i64[n], positions in the source.
  """

  source: Source
  indices: np.ndarray

  def __len__(self) -> int:
    return len(self.indices)

  @property
  def largest_share(self) -> float:
    """The part of the images that are of the most frequent class."""
    labels = self.source.labels[self.indices]
    return float(np.bincount(labels).max() / len(labels))

  def lacking(self) -> list[str]:
    """The names of the classes of the source that have no image here.

    A class without any image in the whole source is not named.
    """
    labels, names = self.source.labels, self.source.names
    counts = np.bincount(labels[self.indices], minlength=len(names))
    absent = np.setdiff1d(np.unique(labels), np.flatnonzero(counts))
    return [names[label] for label in absent]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """The parts of a dataset.

  Attributes:
    classes: number of classes.
    channels: channels of the images, 1 or 3.
    names: names of the classes, by label.
    test: test part; its images are in none of the other parts.
    train: images that a network is trained on; None, as are `weights` and
      `arch`, where only the test part was asked for.
    weights: images of `train` on which a search trains its weights.
    arch: images of `train` on which a search trains the architecture.
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

  The test part is the source's own where it has one, with all or some of the
  classes; otherwise it is `test_fraction` of the images. Of the others,
  `arch_fraction` are `arch`.

  Args:
    options: where the images are, and how they are split.
    test_only: whether only the test part is needed, as in an evaluation: a
      source with a test part of its own may then lack the others.
    names: names of the classes by label, as a network knows them; (): those of
      the source.

  Raises:
    ImportError: the package that a source needs is not installed.
    ValueError: the images are not where the options say, or too few, or cannot
      be read; or their classes are others than `names`.
  """
  source, test_source, notes = _sources(options)
  tests = test_only and test_source is not None
  if tests and names:
    source = None  # It is not needed, and may have changed or gone.
  source, test_source = _in_order(options, source, test_source, names, notes)
  either = test_source if source is None else source
  _check_classes(options, either)
  read = (test_source,) if tests else (source, test_source)
  _check_files(options, [s for s in read if s is not None], notes)
  about = (either.classes, options.channels, either.names)
  if tests:
    return Dataset(*about, _all_of(test_source), notes=tuple(notes))
  train, test = _split(options, source, test_source, notes)
  weights, arch = _search_parts(options, train)
  return Dataset(*about, test, train, weights, arch, tuple(notes))


def check_search(options: DataOptions, dataset: Dataset) -> list[str]:
  """Checks that a search trains its weights on an image of each class.

  Args:
    options: the options that the dataset was loaded with.
    dataset: a dataset with all its parts.

  Returns:
    What a user should know, a line each.

  Raises:
    ValueError: classes without an image to train the weights on; it names
      them.
  """
  weights, arch = dataset.weights, dataset.arch
  # What is loaded for a search has all parts.
  assert weights is not None and arch is not None
  _check_lacking(options, weights, "to train the weights on", "arch_fraction")
  if absent := arch.lacking():
    purpose = "to train the architecture on"
    return [f"{_where(options)}: no image {purpose} of {listed(absent)}"]
  return []


def _where(options):
  return options.name or options.path or options.source


def _check_classes(options, source):
  if source.classes < 2:
    raise ValueError(
      f"{_where(options)}: expected images of two or more classes, found"
      f" {listed(source.names)} alone; add a class"
    )


def _check_lacking(options, subset, purpose, field):
  if absent := subset.lacking():
    raise ValueError(
      f"{_where(options)}: expected an image of each class {purpose}, found"
      f" none of {listed(absent)}, which have too few for"
      f" {field}={getattr(options, field)}; add images, remove these classes,"
      f" or lower {field}"
    )


def _all_of(source):
  return Subset(source, np.arange(len(source)))


def _split(options, source, test_source, notes):
  """The subsets to train and to test on."""
  if source is None:
    raise ValueError(
      f"{_where(options)}: expected images to train on, found a test part"
      " alone: add a train part, or evaluate only"
    )
  if test_source is not None:
    return _all_of(source), _all_of(test_source)
  parts = stratified_split(
    source.labels,
    options.test_fraction,
    options.split_seed,
    field="test_fraction",
    copies=_copies(source),
  )
  train, test = (Subset(source, indices) for indices in parts)
  _check_lacking(options, train, "to train on", "test_fraction")
  if absent := test.lacking():
    notes.append(f"{_where(options)}: no image to test on of {listed(absent)}")
  return train, test


def _search_parts(options, train):
  """The subsets of `train` for the weights and for the architecture."""
  weights, arch = stratified_split(
    train.source.labels[train.indices],
    options.arch_fraction,
    options.split_seed,
    field="arch_fraction",
    # The training images have all or none of a thing's.
    copies=_copies(train.source),
  )
  return tuple(
    Subset(train.source, train.indices[part]) for part in (weights, arch)
  )


def _copies(source):
  """Images in a row that show the same thing."""
  source = getattr(source, "source", source)
  return source.copies if isinstance(source, CopiesSource) else 1


def _in_order(options, source, test_source, names, notes):
  """Both sources with labels in one order: that of `names`, or of `source`."""
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
  """A source with its labels as positions in `names`.

  Args:
    source: a source that has all classes of `names` or, with `some`, a part.
    names: the classes that this run began with (`of_run`), or those of the
      images to train on.
    where: the source's name in errors.
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
  """The sources to train and to test on, one of which may be None; notes."""
  if options.source == "mnist":
    return mnist_source(options.channels), None, []
  if options.source == "photo_digits":
    return photo_digits_source(options.channels), None, []
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

  Such a file would otherwise end a run where it is first read, which may be
  after the search. Files of 0 bytes are always found. Files are decoded only
  where there are at most `DECODED_FILES`: to decode the 1.3 million of ImageNet
  would take the better part of an hour at every start.
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
