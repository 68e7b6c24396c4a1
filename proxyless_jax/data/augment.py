"""What is done to the pixels of a batch: crop, resize, flip, normalise.

Sizes are brought together image by image with Pillow; from then on a batch is
one array, because a call per image would cost more than the work. Resizing is
bilinear with antialiasing (Pillow's BILINEAR), as in the field's ImageNet
recipes: Lanczos is slower and sharpens.
"""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

CENTRE_FRACTION = 0.875  # 224 / 256: the usual evaluation crop of ImageNet
ASPECTS = (3 / 4, 4 / 3)
ATTEMPTS = 10


def resize(image, size, box=None):
  """Resizes the box (left, top, right, bottom) of an image to a square.

  Args:
    image: uint8[h, w, c], with c of 1 or 3.
    size: height and width of the result.
    box: in pixels, may be fractional; None: the whole image.

  Returns:
    uint8[size, size, c]; the image itself where there is nothing to do.
  """
  height, width, channels = image.shape
  whole = (0, 0, width, height)
  box = whole if box is None else box
  if (height, width) == (size, size) and box == whole:
    return image
  from PIL import Image

  picture = Image.fromarray(image[..., 0] if channels == 1 else image)
  resized = picture.resize((size, size), Image.Resampling.BILINEAR, box=box)
  return np.asarray(resized).reshape(size, size, channels)


def centre_box(height, width):
  """The centre square whose side is 0.875 of the shorter side.

  Resizing it is to resize the shorter side to size / 0.875 and to crop the
  centre, in one step.
  """
  side = CENTRE_FRACTION * min(height, width)
  left, top = (width - side) / 2, (height - side) / 2
  return left, top, left + side, top + side


def random_box(height, width, min_scale, rng):
  """A box of random area and aspect (Szegedy et al. 2014, section 6).

  The area is uniform in [min_scale, 1] of the image's, the logarithm of the
  aspect uniform in that of 3/4..4/3. After ten draws that do not fit, the
  largest centred box whose aspect is in the range.
  """
  areas = rng.uniform(min_scale, 1, ATTEMPTS) * height * width
  aspects = np.exp(rng.uniform(*np.log(ASPECTS), ATTEMPTS))
  for area, aspect in zip(areas, aspects):
    box_width = round(math.sqrt(area * aspect))
    box_height = round(math.sqrt(area / aspect))
    if 0 < box_width <= width and 0 < box_height <= height:
      left = int(rng.integers(width - box_width + 1))
      top = int(rng.integers(height - box_height + 1))
      return left, top, left + box_width, top + box_height
  box_width = min(width, height * ASPECTS[1])
  box_height = min(height, width / ASPECTS[0])
  left, top = (width - box_width) / 2, (height - box_height) / 2
  return left, top, left + box_width, top + box_height


def pad_and_crop(images, padding, rng):
  """Pads uint8[b, s, s, c] with black, then crops [s, s] of each at random."""
  batch, size = images.shape[:2]
  sides = (padding, padding)
  padded = np.pad(images, ((0, 0), sides, sides, (0, 0)))
  tops, lefts = rng.integers(2 * padding + 1, size=(2, batch))
  windows = sliding_window_view(padded, (size, size), axis=(1, 2))
  crops = windows[np.arange(batch), tops, lefts]
  return np.ascontiguousarray(crops.transpose(0, 2, 3, 1))


def flip(images, rng):
  """Mirrors each image of [b, h, w, c] in place with probability 1/2."""
  chosen = np.flatnonzero(rng.random(len(images)) < 0.5)
  images[chosen] = images[chosen, :, ::-1]


def normalise(images, mean, std):
  """(images / 255 - mean) / std of uint8[b, h, w, c], in float32."""
  width = images.shape[2]
  # Over whole rows: broadcasting over a last axis of 3 takes thrice the time.
  scale = np.tile(1 / (255 * np.asarray(std)), width).astype(np.float32)
  shift = np.tile(-np.divide(mean, std), width).astype(np.float32)
  rows = images.reshape(*images.shape[:2], -1) * scale
  rows += shift
  return rows.reshape(images.shape)
