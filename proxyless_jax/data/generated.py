"""Images made from their number: to try a configuration without a data set.

Each class has a hue, and stripes of its own width and slant; position, light
and noise differ from image to image. A network learns the classes in a few
hundred steps; this says nothing about photographs.
"""

import dataclasses
import functools

import numpy as np

GOLDEN = 0.6180339887  # Hues a golden section apart stay apart for any count.
# The sides of images over the size that they are cropped to. For ImageNet's
# mean size, 375x500, over 224 they are 1.7 and 2.2.
SMALLEST, LARGEST = 1.2, 2.2


@dataclasses.dataclass(frozen=True, eq=False)
class GeneratedSource:
  """A `Source` of images that are made when they are read.

  Attributes:
    classes: number of classes; image i is of class i % classes.
    images: number of images.
    image_size: size that they are cropped to, as in `DataOptions`; they are
      larger, of varied shapes.
    channels: channels of the images, 1 or 3.
  """

  classes: int
  images: int
  image_size: int | tuple[int, int]
  channels: int

  @property
  def names(self) -> tuple[str, ...]:
    """Names of the classes, by label."""
    return tuple(f"pattern{label}" for label in range(self.classes))

  @functools.cached_property
  def labels(self) -> np.ndarray:
    """i32[n], each class in turn."""
    return np.arange(self.images, dtype=np.int32) % self.classes

  @property
  def digest(self) -> str:
    """The numbers of images and of classes."""
    return f"{self.images} images of {self.classes} patterns"

  def __len__(self) -> int:
    return self.images

  def __getitem__(self, index: int) -> dict:
    index = int(index)
    if not 0 <= index < self.images:
      raise IndexError(f"index {index}: expected 0..{self.images - 1}")
    rng = np.random.Generator(np.random.PCG64(index))
    label = index % self.classes
    sides = np.multiply(self.image_size, rng.uniform(SMALLEST, LARGEST, 2))
    height, width = np.ceil(sides).astype(int)
    waves = _stripes(label, self.classes, height, width, rng)
    values = rng.uniform(90, 150) + rng.uniform(30, 60) * (
      waves[..., None] * 0.5 + _colour(label, self.channels)
    )
    values += rng.integers(-20, 21, values.shape, np.int8)
    return {"image": np.clip(values, 0, 255).astype(np.uint8), "label": label}


def _stripes(label, classes, height, width, rng):
  """Stripes f32[h, w] in -1..1, whose width and slant depend on the class."""
  turn = np.pi * label / classes
  waves = 3 + 5 * (label * GOLDEN**2 % 1)  # Over the shorter side.
  unit = 2 * np.pi * waves / min(height, width)
  down = np.arange(height, dtype=np.float32) * np.float32(np.sin(turn) * unit)
  across = np.arange(width, dtype=np.float32) * np.float32(np.cos(turn) * unit)
  start = np.float32(rng.uniform(0, 2 * np.pi))
  return np.sin(down[:, None] + across + start)


def _colour(label, channels):
  """The colour of a class: f32[channels] in -1..1."""
  hue = 2 * np.pi * (label * GOLDEN % 1)
  thirds = 2 * np.pi * np.arange(channels) / 3
  return np.cos(hue + thirds).astype(np.float32)
