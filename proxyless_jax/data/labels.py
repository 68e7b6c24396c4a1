"""Labels of a prepared dataset, kept on disk after they were read once.

TFDS keeps no index of labels, and the stratified split needs all of them:
for ImageNet, that is a pass over 140 GB. The file has 4 bytes an image; it is
beside the records or, where that folder is read-only, in the user's cache.
"""

import hashlib
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterable

import numpy as np
from absl import logging


def fingerprint(title: str, paths: Iterable[str]) -> str:
  """A digest of a title and of the names, sizes and times of files."""
  files = [(path.name, path.stat()) for path in map(pathlib.Path, paths)]
  facts = [title, *((name, s.st_size, s.st_mtime_ns) for name, s in files)]
  return hashlib.sha256(repr(facts).encode()).hexdigest()


def kept_labels(
  folder: str,
  split: str,
  digest: str,
  count: int,
  read: Callable[[], np.ndarray],
) -> np.ndarray:
  """The labels of a split, from disk if they are there.

  Args:
    folder: folder of the prepared dataset.
    split: name of the split.
    digest: the `fingerprint` of the records; labels on disk that have another
      one, are damaged, or are of another number are read and written again.
    count: number of labels.
    read: the pass over all records, () -> i32[count].

  Returns:
    i32[count].
  """
  places = [
    pathlib.Path(folder) / f"proxyless_jax_labels_{split}.npz",
    _user_cache() / f"{digest}.npz",
  ]
  for place in places:
    labels = _load(place, digest, count)
    if labels is not None:
      return labels
  logging.info("Reading the %d labels of %s, split %s", count, folder, split)
  labels = read()
  for place in places:
    if _save(place, digest, labels):
      break
  return labels


def _user_cache():
  root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  return pathlib.Path(root) / "proxyless_jax" / "labels"


def _load(place, digest, count):
  """The labels in a file, or None. The archive's CRC32 finds damage."""
  try:
    with np.load(place, allow_pickle=False) as kept:
      if str(kept["fingerprint"]) != digest:
        return None
      labels = kept["labels"]
  except FileNotFoundError:
    return None
  except Exception as error:  # Whatever numpy and zipfile raise for damage.
    logging.warning("%s cannot be read (%s): writing it again", place, error)
    return None
  sound = labels.dtype == np.int32 and labels.shape == (count,)
  return labels if sound else None


def _save(place, digest, labels):
  """Writes labels, all or nothing; gives whether they could be written."""
  try:
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
      dir=place.parent, prefix=".labels", delete=False
    ) as file:
      try:
        np.savez(file, labels=labels, fingerprint=digest)
        file.close()
        os.chmod(file.name, 0o644)
        os.replace(file.name, place)
      except BaseException:
        os.unlink(file.name)
        raise
  except OSError as error:
    logging.info("%s cannot be written (%s)", place, error)
    return False
  return True
