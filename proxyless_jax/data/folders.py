"""Folders of images: the part to train on, the part to test on, the classes.

The root holds a part to train on, `train/CLASS/`, one to test on, `test/CLASS/`
or `val/CLASS/`, or both; or `CLASS/` directly. Names are compared in Unicode's
composed form (NFC), since macOS writes another one than Linux.
"""

from __future__ import annotations

import collections
import errno
import os
import pathlib
import re
import unicodedata

import numpy as np

from proxyless_jax.data.decode import unreadable
from proxyless_jax.data.sources import FolderSource, listed

SUFFIXES = (
  *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm"),
  *(".png", ".ppm", ".tif", ".tiff", ".webp"),
)
# Names of parts, in upper or lower case.
TRAIN = ("train",)
VALIDATION = ("val", "valid", "validation")
TEST = ("test",)
NOWHERE = "links that lead nowhere"
# Files of operating systems, besides names that begin with a dot.
LITTER = ("__macosx", "@eadir", "desktop.ini", "thumbs.db")


def folder_sources(
  root: str | os.PathLike, channels: int
) -> tuple[FolderSource | None, FolderSource | None, tuple[str, ...]]:
  """The sources of a folder: train and test, one of which may be None.

  Class folders hold images at any depth; links to folders are followed, each
  folder once. Where there are both test/ and val/, the test part is test/, if
  its class folders are classes of train/.

  Args:
    root: the folder.
    channels: channels to convert the images to, 1 or 3.

  Returns:
    The two sources, each with its own classes, and notes: what a user should
    know, such as which files are skipped, a line each.

  Raises:
    ValueError: there is no such folder, or it cannot be read; it has no class
      folders, or a single one; class folders to train on are empty, or hold
      what looks like the classes; or two folders could be the same part.
  """
  root = pathlib.Path(root)
  if not root.is_dir():
    raise ValueError(
      f"data.path={str(root)!r}: expected a folder; correct the path, or bring"
      " the folder back, and the same command continues"
    )
  notes: list[str] = []
  try:
    train, test = _parts(root, notes)
    sources = (
      train and _train_source(train, channels, notes),
      test and _source(test, _images(test, notes), channels),
    )
  except OSError as error:  # Such as of a network drive that went away.
    raise unreadable(root, "a folder of images", error) from error
  return *sources, tuple(notes)


def composed(name: str) -> str:
  """A name in NFC."""
  return unicodedata.normalize("NFC", name)


def _parts(root, notes):
  """The folders of train and test; without any such name, (root, None)."""
  folders = _folders(root)
  train, validation, test = (
    _named(root, folders, names) for names in (TRAIN, VALIDATION, TEST)
  )
  named = [part for part in (train, validation, test) if part is not None]
  # A class may have the name of a part: "valid" beside "invalid".
  alone = train is None and len(named) == len(folders)
  if not (named and (train or alone or any(map(_folders, named)))):
    return root, None
  paths = map(pathlib.Path, folders.values())
  unused = {path: "" for path in paths if path not in named}
  picked = _picked(train, validation, test, unused)
  if unused:
    using = [f"trains on {train.name}"] if train else []
    using += [f"tests on {picked.name if picked else 'a part of it'}"]
    names = [f"{path.name}{why}" for path, why in unused.items()]
    notes.append(f"{root}: {', '.join(using)}; not used: {listed(names)}")
  return train, picked


def _picked(train, validation, test, unused):
  """The part to test on; others become keys of `unused`, with the reason."""
  if test is None:
    return validation
  classes = set(_folders(test))
  if not classes:
    if train is None and validation is None:
      return test  # It is refused later.
    unused[test] = " (it has no class folders)"
    return validation
  if validation is None:
    return test
  unknown = classes - set(_folders(train)) if train else ()
  if unknown:
    unused[test] = f" (not classes of train: {listed(sorted(unknown))})"
    return validation
  unused[validation] = ""
  return test


def _named(root, folders, names):
  """The one folder of some names, in any case, or None."""
  found = [path for name, path in folders.items() if name.casefold() in names]
  if len(found) > 1:
    found = [os.path.basename(path) for path in found]
    raise ValueError(
      f"{root}: expected one folder of {', '.join(names)}, found"
      f" {' and '.join(found)}; merge them, or rename the others"
    )
  return pathlib.Path(found[0]) if found else None


def _folders(root):
  """{name in NFC: path} of the folders in a folder, sorted by name."""
  folders = {}
  for entry in _entries(root):
    if not _is_folder(entry):
      continue
    name = composed(entry.name)
    if name in folders:
      raise ValueError(
        f"{root}: two folders are called {name}, in different forms of"
        " Unicode; merge them"
      )
    folders[name] = entry.path
  return dict(sorted(folders.items()))


def _entries(folder):
  """The entries of a folder, by name, without those of `LITTER`."""
  with os.scandir(folder) as entries:
    shown = [
      entry
      for entry in entries
      if not entry.name.startswith(".") and entry.name.casefold() not in LITTER
    ]
  return sorted(shown, key=lambda entry: composed(entry.name))


def _is_folder(entry):
  try:
    return entry.is_dir()
  except OSError as error:
    if error.errno == errno.ELOOP:  # A link to itself is no folder.
      return False
    raise


def _images(part, notes):
  """{class: paths of its images} of a part; skipped files become a note."""
  skipped = collections.Counter()
  images = {
    name: images_below(folder, skipped)
    for name, folder in _folders(part).items()
  }
  if not images:
    raise ValueError(
      f"{part}: expected one folder per class, found none; put images in"
      f" {part}/CLASS/"
    )
  for entry in _entries(part):
    kind = _kind(entry)
    if not _is_folder(entry) and kind in (*SUFFIXES, NOWHERE):
      skipped[f"{kind} beside the class folders"] += 1
  if skipped:
    counts = [f"{count} {kind}" for kind, count in skipped.most_common()]
    notes.append(
      f"{part}: skipped {listed(counts, 10)}; images are"
      f" {', '.join(SUFFIXES)} in class folders"
    )
  return images


def images_below(
  folder: str | os.PathLike, skipped: collections.Counter[str]
) -> list[str]:
  """The paths of the images below a folder, at any depth, sorted.

  Args:
    folder: the folder; links to folders are followed, each folder once.
    skipped: numbers of other files by kind, to which those found are added.
  """
  # A link to a folder above would bring in all the classes.
  above = pathlib.Path(folder).resolve()
  seen = {_identity(os.stat(path)) for path in (above, *above.parents)}
  found, waiting = [], [os.fspath(folder)]
  while waiting:
    for entry in _entries(waiting.pop()):
      if _is_folder(entry):
        identity = _identity(entry.stat())
        if identity not in seen:
          seen.add(identity)
          waiting.append(entry.path)
      elif _suffix(entry) in SUFFIXES and not _has_no_end(entry):
        found.append(entry.path)
      else:
        skipped[_kind(entry)] += 1
  return sorted(found, key=composed)


def _identity(status):
  return status.st_dev, status.st_ino


def _suffix(entry):
  return os.path.splitext(entry.name)[1].lower()


def _has_no_end(entry):
  """Whether it is a pipe or a device, at which a reader would wait."""
  plain, path = entry.is_file(follow_symlinks=False), entry.path
  return not plain and os.path.exists(path) and not os.path.isfile(path)


def _kind(entry):
  """What to call a file that is no image of a class."""
  if entry.is_symlink() and not os.path.exists(entry.path):
    return NOWHERE
  if _has_no_end(entry):
    return "pipe or device"
  return _suffix(entry) or "without a suffix"


def _train_source(part, channels, notes):
  images = _images(part, notes)
  _check_names(part, list(images))
  _check_nesting(part, images)
  empty = [name for name, paths in images.items() if not paths]
  if empty:
    raise ValueError(
      f"{part}: expected images ({', '.join(SUFFIXES)}) in every class folder,"
      f" found none in {listed(empty)}; add images or remove these folders"
    )
  if len(images) == 1:
    ((name, folder),) = _folders(part).items()
    inner = list(_folders(folder))
    hint = f", which holds {listed(inner)}; set data.path to {folder}, or"
    raise ValueError(
      f"{part}: expected two or more class folders, found {name} alone"
      f"{hint if len(inner) > 1 else ';'} add a folder for each class"
    )
  return _source(part, images, channels)


def _check_names(part, names):
  """Refuses class folders with the names of parts, such as seg_train."""
  words = {name: set(re.findall("[a-z]+", name.casefold())) for name in names}
  trains = [name for name in names if words[name] & {*TRAIN, "training"}]
  tests = {*VALIDATION, *TEST, "testing"}
  tests = [name for name in names if words[name] & tests]
  if trains and tests:
    raise ValueError(
      f"{part}: expected class folders, but {listed(trains + tests)} are called"
      " as parts; call them train and val, with class folders directly in them"
    )


def _check_nesting(part, images):
  """Refuses class folders that are parts, or groups, of the same classes."""
  begin = len(os.path.join(part, ""))
  inner = collections.defaultdict(set)
  for name, paths in images.items():
    for path in paths:
      _, first, *rest = path[begin:].split(os.sep, 2)
      if not rest:
        return  # An image directly in a class folder.
      inner[name].add(first)
  most = max(inner.values(), key=len, default=())
  alike = all(folders <= most for folders in inner.values())
  if len(inner) < 2 or len(most) < 2 or not alike:
    return
  raise ValueError(
    f"{part}: expected class folders, but {listed(list(inner))} hold the same"
    f" folders, {listed(sorted(most))}, which look like the classes; call the"
    " parts train and val, or put images directly into the class folders"
  )


def _source(part, images, channels):
  images = {name: paths for name, paths in images.items() if paths}
  if not images:
    raise ValueError(
      f"{part}: expected images ({', '.join(SUFFIXES)}) in class folders, found"
      " none; add images"
    )
  counts = [len(paths) for paths in images.values()]
  return FolderSource(
    str(part),
    tuple(path for paths in images.values() for path in paths),
    np.repeat(np.arange(len(images), dtype=np.int32), counts),
    tuple(images),
    channels,
  )
