"""Images without labels: to classify arrays and files as a run's own images.

They become a `Source`, so that `eval_batches` prepares them exactly as it
prepares the images of an evaluation.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import glob
import os
import pathlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from proxyless_jax.data.decode import as_channels, decode_image
from proxyless_jax.data.folders import SUFFIXES, composed, images_below
from proxyless_jax.data.sources import listed, undecodable

if TYPE_CHECKING:
  from PIL.Image import Image as Picture

# What can be classified: uint8[b, h, w, c], a file, or several of them.
Images = (
  np.ndarray | str | os.PathLike | Iterable[np.ndarray | str | os.PathLike]
)

OF_PILLOW = "for a Pillow image [np.asarray(image.convert('RGB'))]"


@dataclasses.dataclass(frozen=True, eq=False)
class Unlabelled:
  """A `Source` of images without labels, which has one nameless class.

  Attributes:
    images: arrays uint8[h, w, c], of any sizes, and names of files.
    channels: channels to convert the images to, 1 or 3.
  """

  images: tuple[np.ndarray | str, ...]
  channels: int
  names: tuple[str, ...] = ("",)
  classes: int = 1
  digest: str = ""

  @functools.cached_property
  def labels(self) -> np.ndarray:
    """i32[n], zeros."""
    return np.zeros(len(self), np.int32)

  def __len__(self) -> int:
    return len(self.images)

  def __getitem__(self, index: int) -> dict:
    image = self.images[index]
    if isinstance(image, str):
      return {"image": _decoded(image, self.channels), "label": 0}
    return {"image": as_channels(image, self.channels), "label": 0}


def unlabelled(images: Images, channels: int) -> Unlabelled:
  """The source of images to classify, all checked but the files' contents.

  Args:
    images: uint8[b, h, w, c]; the name of a file; or several arrays
      uint8[h, w, c] or uint8[h, w] and names of files. c is 1 or 3.
    channels: channels to convert the images to, 1 or 3.

  Raises:
    ValueError: something else, or a file that does not exist; it is named.
  """
  if isinstance(images, str | os.PathLike):
    images = [images]
  elif hasattr(images, "ndim"):  # An array of NumPy, JAX or PyTorch.
    if images.ndim != 4:
      raise ValueError(
        f"images: expected an array uint8[b, h, w, c], got "
        f"{_shown(images)}: for a single image images[None], for images of "
        "different sizes a list"
      )
    images = np.asarray(images)
  elif not isinstance(images, Iterable):
    raise ValueError(
      "images: expected an array uint8[b, h, w, c], the name of a file, or a "
      f"list of arrays and names, got {type(images).__name__}: {OF_PILLOW}"
    )
  checked = [_checked(f"images[{i}]", image) for i, image in enumerate(images)]
  return Unlabelled(tuple(checked), channels)


def find_images(place: str) -> tuple[list[str], list[str]]:
  """The image files that a folder, a pattern or a name stands for.

  Args:
    place: a folder, for the images below it at any depth; a file; or a pattern
      of `glob`, where ** stands for folders at any depth.

  Returns:
    The paths in sorted order, and notes: a line on the files that are skipped.

  Raises:
    ValueError: there are none.
  """
  skipped: collections.Counter[str] = collections.Counter()
  if os.path.isdir(place):
    found = images_below(place, skipped)
  elif os.path.isfile(place):
    found = [place]  # Whatever its suffix.
  else:
    found = _matching(place, skipped)
  kinds = [f"{count} {kind}" for kind, count in skipped.most_common()]
  suffixes = ", ".join(SUFFIXES)
  if not found:
    others = f" ({listed(kinds, 10)})" if kinds else ""
    raise ValueError(
      f"{place!r}: expected a folder with images ({suffixes}), an image, or a "
      f"pattern such as 'photos/*.jpg', found none{others}: correct the path"
    )
  notes = [f"{place}: skipped {listed(kinds, 10)}; images are {suffixes}"]
  return found, notes if kinds else []


def _matching(pattern: str, skipped: collections.Counter[str]) -> list[str]:
  """The image files that match a pattern, sorted; counts other files."""
  found = []
  for path in sorted(glob.glob(pattern, recursive=True), key=composed):
    suffix = os.path.splitext(path)[1].lower()
    if os.path.isfile(path) and suffix in SUFFIXES:
      found.append(path)
    elif not os.path.isdir(path):
      skipped[suffix or "without a suffix"] += 1
  return found


def _decoded(path: str, channels: int) -> Picture:
  """The Pillow image in a file, upright."""
  try:
    return decode_image(pathlib.Path(path).read_bytes(), channels)
  except Exception as error:  # Whatever Pillow raises.
    why = undecodable(path, channels)
    raise ValueError(
      f"{path}: expected an image, but it cannot be read ({why}); replace it, "
      "or leave it out"
    ) from error


def _checked(where: str, image: Any) -> np.ndarray | str:
  """An image as `Unlabelled` takes it."""
  if isinstance(image, str | os.PathLike):
    path = os.path.expanduser(os.fspath(image))
    if not os.path.isfile(path):
      found = "a folder" if os.path.isdir(path) else "no such file"
      raise ValueError(f"{where} = {path!r}: expected an image file: {found}")
    return path
  if not hasattr(image, "dtype"):  # A Pillow image has none.
    raise ValueError(
      f"{where} is of type {type(image).__name__}: expected an array "
      f"uint8[h, w, c] or the name of a file; {OF_PILLOW}"
    )
  array = np.asarray(image)
  pixels = array[..., None] if array.ndim == 2 else array
  if array.dtype != np.uint8:
    raise ValueError(
      f"{where}: expected pixels uint8 in 0..255, got {_shown(array)}: the "
      "run's own mean and std are applied to them; of floats in 0..1 "
      "(255 * image).round().astype('uint8')"
    )
  if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3) or not pixels.size:
    raise ValueError(
      f"{where}: expected uint8[h, w, c] with 1 or 3 channels, got "
      f"{_shown(array)}: without transparency image[..., :3]; with channels "
      "first image.transpose(1, 2, 0)"
    )
  return pixels


def _shown(array: Any) -> str:
  return f"{array.dtype}{list(array.shape)}"
