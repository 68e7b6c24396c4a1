"""The pipeline's steps, from positions to batches, as Grain's transforms."""

from __future__ import annotations

import dataclasses

import grain
import numpy as np

from proxyless_jax.data import augment
from proxyless_jax.data.options import DataOptions
from proxyless_jax.data.sources import Source


@dataclasses.dataclass(frozen=True)
class Augment(grain.transforms.RandomMap):
  """Positions i64[n] to {"image": u8[n, h, w, c], "label": i32[n]}.

  With cutout, there is also "cutout": i32[n, 2], the centres.

  Attributes:
    source: the source of the images.
    options: options of the augmentation.
    batch: rows of the whole batch. Random numbers are drawn for all of them,
      so that an image is augmented alike by whichever host reads it.
    rows: the rows of the batch that the positions are for.
  """

  source: Source
  options: DataOptions
  batch: int
  rows: slice

  def random_map(
    self, element: np.ndarray, rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    """Reads and augments the images at these positions."""
    options, drawn = self.options, self._drawn(rng)
    batch = _read(
      self.source,
      element,
      options,
      lambda image, i: self._changed(image, i, drawn),
    )
    if "corner" in drawn:
      batch["image"] = augment.pad_and_crop(
        batch["image"], options.crop_padding, drawn["corner"]
      )
    if "cutout" in drawn:
      batch["cutout"] = drawn["cutout"]
    return batch

  def _drawn(self, rng):
    """The random numbers of each row, {name: [n, ...]}."""
    options, batch, drawn = self.options, self.batch, {}
    if options.flip:
      drawn["flip"] = rng.random(batch) < 0.5
    if options.crop == "pad":
      ends = 2 * options.crop_padding + 1
      drawn["corner"] = rng.integers(ends, size=(2, batch)).T
    if options.cutout:
      shape = batch, 2
      drawn["cutout"] = rng.integers(options.image_size, size=shape, dtype="i4")
    if options.crop == "resized":
      drawn["box"] = rng.random((batch, augment.BOX_DRAWS))
    if options.brightness or options.saturation:
      drawn["jitter"] = rng.random((batch, augment.JITTER_DRAWS))
    return {name: values[self.rows] for name, values in drawn.items()}

  def _changed(self, image, i, drawn):
    options, size = self.options, self.options.height_width
    if "box" in drawn:
      shape = augment.height_width(image)
      box = augment.random_box(
        *shape, options.crop_min_scale, drawn["box"][i], size
      )
      image = augment.crop_and_resize(image, size, box)
    else:
      image = augment.resize(image, size)
    if "flip" in drawn and drawn["flip"][i]:
      image = augment.flip(image)
    if "jitter" in drawn:
      image = augment.jitter(
        image, options.brightness, options.saturation, drawn["jitter"][i]
      )
    return image


@dataclasses.dataclass(frozen=True)
class Centre(grain.transforms.Map):
  """Positions i64[n] to {"image": u8[n, h, w, c], "label": i32[n]}.

  As for evaluation: resized, or the centre where training crops a random area.
  """

  source: Source
  options: DataOptions

  def map(self, element: np.ndarray) -> dict[str, np.ndarray]:
    """Reads and resizes the images at these positions."""
    return _read(
      self.source, element, self.options, lambda image, _: self._resized(image)
    )

  def _resized(self, image):
    size, box = self.options.height_width, None
    if self.options.crop == "resized":
      box = augment.centre_box(*augment.height_width(image), size)
    return augment.resize(image, size, box)


@dataclasses.dataclass(frozen=True)
class Finish(grain.transforms.Map):
  """The output of `Augment` or `Centre` to a normalised batch, padded to size.

  It runs in the process that uses the batches, not in worker processes: to hand
  over 8 bits a value is several times cheaper than to hand over 32.
  """

  options: DataOptions
  batch: int

  def map(self, element: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Normalises a batch, cuts its squares, and pads it with masked rows."""
    options, found = self.options, len(element["label"])
    images = np.empty((self.batch, *element["image"].shape[1:]), np.float32)
    augment.normalise(
      element["image"], options.mean, options.std, images[:found]
    )
    images[found:] = 0
    if "cutout" in element:
      augment.cut(images, element["cutout"], options.cutout)
    return {
      "image": images,
      "label": np.pad(element["label"], (0, self.batch - found)),
      "mask": (np.arange(self.batch) < found).astype(np.float32),
    }


def _read(source, positions, options, change):
  """The changed images and the labels of positions i64[n].

  One image after the other: a core's own cache holds an image, not a batch.
  """
  shape = len(positions), *options.height_width, options.channels
  images, labels = np.empty(shape, np.uint8), np.empty(shape[0], np.int32)
  for i, position in enumerate(positions.tolist()):
    record = source[position]
    images[i] = augment.pixels(change(record["image"], i))
    labels[i] = record["label"]
  return {"image": images, "label": labels}
