"""Operations on pixels: crop, resize, flip, jitter, cut, normalise.

An image is uint8[h, w, c] or a Pillow image of mode L or RGB; before it is
resized it may also be a `decode.EncodedImage`. Sizes and
colours are changed image by image with Pillow; from then on a batch is one
array, because a call per image would cost more than the work. For the same
reason random numbers are drawn for whole batches, by the caller. Resizing is
bilinear with antialiasing (Pillow's BILINEAR), as in the field's ImageNet
recipes: Lanczos is slower and sharpens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from proxyless_jax.data.decode import EncodedImage

if TYPE_CHECKING:
  from PIL.Image import Image as Picture

  Pixels = np.ndarray | Picture

CENTRE_FRACTION = 0.875  # 224 / 256: the usual evaluation crop of ImageNet
ASPECTS = (3 / 4, 4 / 3)
LOG_ASPECTS = (math.log(ASPECTS[0]), math.log(ASPECTS[1]))
# Random numbers per image. For a box: area and aspect of ten attempts, left and
# top; for jitter: the order and two factors.
BOX_DRAWS = 2 * 10 + 2
JITTER_DRAWS = 3
# Pixels normalised at a time: few enough to stay in a core's own cache.
CHUNK_PIXELS = 2**14


def height_width(image: Pixels | EncodedImage) -> tuple[int, int]:
  """The height and width of an image, in pixels."""
  if isinstance(image, np.ndarray):
    return image.shape[:2]
  return image.height, image.width


def pixels(image: Pixels) -> np.ndarray:
  """The pixels of an image, uint8[h, w, c]."""
  if isinstance(image, np.ndarray):
    return image
  values = np.asarray(image)
  return values[..., None] if values.ndim == 2 else values


def resize(
  image: Pixels | EncodedImage,
  size: tuple[int, int],
  box: tuple[float, float, float, float] | None = None,
) -> Pixels:
  """Resizes the box (left, top, right, bottom) of an image.

  Args:
    image: an array, a Pillow image, or an image that is not yet decoded.
    size: (height, width) of the result, whatever the aspect of the box.
    box: box in pixels, which may be fractional; None: the whole image. The
      pixels around it take part in the antialiasing at its borders.

  Returns:
    The image itself where there is nothing to do; otherwise a Pillow image.
  """
  if isinstance(image, EncodedImage):
    image = image.decoded
  height, width = height_width(image)
  whole = (0, 0, width, height)
  box = whole if box is None else box
  if (height, width) == size and box == whole:
    return image
  from PIL import Image

  return _picture(image).resize(size[::-1], Image.Resampling.BILINEAR, box)


def crop_and_resize(
  image: Pixels | EncodedImage,
  size: tuple[int, int],
  box: tuple[int, int, int, int],
) -> Pixels:
  """Crops to (left, top, right, bottom), in whole pixels, then resizes."""
  if isinstance(image, np.ndarray):
    image = _picture(image)
  return resize(image.crop(box), size)


def centre_box(
  height: int, width: int, size: tuple[int, int]
) -> tuple[float, float, float, float]:
  """The box that an image is evaluated on.

  To resize it is to resize it, in proportion, to the least that covers
  size / 0.875, and to crop the centre. Where size is a square, one side fits
  it, the shorter one: all rounding is then as in torchvision's Resize and
  CenterCrop, with which published networks were evaluated. (For a rectangle
  torchvision's Resize would change the aspect.)

  Args:
    height, width: size of the image, in pixels.
    size: (height, width) of the result.
  """
  high, wide = (round(side / CENTRE_FRACTION) for side in size)
  if width * high <= height * wide:
    high = int(wide * height / width)
  else:
    wide = int(high * width / height)
  top, left = (round((n - m) / 2) for n, m in zip((high, wide), size))
  down, across = height / high, width / wide
  bottom, right = top + size[0], left + size[1]
  return left * across, top * down, right * across, bottom * down


def random_box(
  height: int,
  width: int,
  min_scale: float,
  draws: np.ndarray,
  size: tuple[int, int],
) -> tuple[int, int, int, int]:
  """A box of random area and aspect (Szegedy et al. 2014, section 6).

  The area is uniform in [min_scale, 1] of the image's, the logarithm of the
  aspect, over that of `size`, uniform in that of 3/4..4/3. After ten attempts
  that do not fit, the largest centred box whose aspect is in the range. In
  whole pixels.

  Args:
    height, width: size of the image, in pixels.
    min_scale: least area of the box over that of the image.
    draws: f64[BOX_DRAWS], uniform in [0, 1).
    size: (height, width) that the box is resized to.
  """
  # torchvision's RandomResizedCrop has aspects of 3/4..4/3 for rectangles too,
  # which would stretch training images as evaluation stretches none.
  stretch = size[1] / size[0]
  *shapes, across, down = draws.tolist()
  for of_area, of_aspect in zip(shapes[::2], shapes[1::2]):
    area = _between(min_scale, 1, of_area) * height * width
    aspect = stretch * math.exp(_between(*LOG_ASPECTS, of_aspect))
    box_width = round(math.sqrt(area * aspect))
    box_height = round(math.sqrt(area / aspect))
    if 0 < box_width <= width and 0 < box_height <= height:
      left = int(across * (width - box_width + 1))
      top = int(down * (height - box_height + 1))
      return left, top, left + box_width, top + box_height
  box_width = min(width, max(1, round(height * ASPECTS[1] * stretch)))
  box_height = min(height, max(1, round(width / (ASPECTS[0] * stretch))))
  left, top = (width - box_width) // 2, (height - box_height) // 2
  return left, top, left + box_width, top + box_height


def jitter(
  image: Pixels, brightness: float, saturation: float, draws: np.ndarray
) -> Pixels:
  """Changes brightness and saturation, in random order.

  Each is multiplied by a factor uniform in 1 - x .. 1 + x (not below 0), where
  x is `brightness` or `saturation`, and 0 leaves it as it is. The released
  code of the paper has 32/255 and 0.5 (search/data_providers/imagenet.py,
  distort_color="normal"), by torchvision's ColorJitter, which is this.

  Args:
    image: an array or a Pillow image.
    brightness: 0 or more.
    saturation: 0 or more.
    draws: f64[JITTER_DRAWS], uniform in [0, 1): brightness is first where the
      first is below 0.5; the others are of the factors, in this order.

  Returns:
    A Pillow image.
  """
  from PIL import ImageEnhance

  picture = _picture(image)
  enhancers = [
    (ImageEnhance.Brightness, brightness),
    (ImageEnhance.Color, saturation),
  ]
  order, *of_factors = draws.tolist()
  if order >= 0.5:
    enhancers.reverse()
  for (enhancer, strength), of_factor in zip(enhancers, of_factors):
    if strength:
      factor = _between(max(0, 1 - strength), 1 + strength, of_factor)
      picture = enhancer(picture).enhance(factor)
  return picture


def pad_and_crop(
  images: np.ndarray, padding: int, corners: np.ndarray
) -> np.ndarray:
  """Pads with black, then crops to the size before.

  Args:
    images: uint8[b, h, w, c].
    padding: black pixels on each side.
    corners: i64[b, 2], top and left of each crop, in 0..2 * padding.
  """
  batch, *size, _ = images.shape
  sides = (padding, padding)
  padded = np.pad(images, ((0, 0), sides, sides, (0, 0)))
  tops, lefts = corners.T
  windows = sliding_window_view(padded, size, axis=(1, 2))
  crops = windows[np.arange(batch), tops, lefts]
  return np.ascontiguousarray(crops.transpose(0, 2, 3, 1))


def flip(image: Pixels) -> Pixels:
  """The image mirrored left to right; for an array, a view."""
  if isinstance(image, np.ndarray):
    return image[:, ::-1]
  from PIL import Image

  return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def cut(images: np.ndarray, centres: np.ndarray, side: int) -> None:
  """Sets a square of each normalised image, f32[b, h, w, c], to 0, in place.

  DeVries and Taylor 2017 (Cutout): the centre, i32[b, 2], is any pixel, so
  that the square, of `side` pixels, may stick out of the image.
  """
  for image, (top, left) in zip(images, centres - side // 2):
    image[max(top, 0) : top + side, max(left, 0) : left + side] = 0


def normalise(
  images: np.ndarray,
  mean: Sequence[float],
  std: Sequence[float],
  out: np.ndarray,
) -> None:
  """(images / 255 - mean) / std of uint8[n, h, w, c], into f32[n, h, w, c]."""
  values, out_values = images.reshape(-1), out.reshape(-1)
  # Flat and in chunks of whole pixels: to broadcast over a last axis of 3, or
  # to go through memory thrice, takes several times as long.
  pixels = max(1, min(CHUNK_PIXELS, values.size // len(mean)))
  scale = np.tile(1 / (255 * np.asarray(std)), pixels).astype(np.float32)
  shift = np.tile(-np.divide(mean, std), pixels).astype(np.float32)
  for start in range(0, values.size, scale.size):
    chunk = out_values[start : start + scale.size]
    chunk[...] = values[start : start + scale.size]
    chunk *= scale[: chunk.size]
    chunk += shift[: chunk.size]


def _between(low: float, high: float, draw: float) -> float:
  """A draw, uniform in [0, 1), scaled to low..high."""
  return low + (high - low) * draw


def _picture(image: Pixels) -> Picture:
  """The Pillow image of an image."""
  if not isinstance(image, np.ndarray):
    return image
  from PIL import Image

  return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
