"""From the bytes of an image file to uint8[h, w, c]: Pillow and conventions.

Conventions: the EXIF orientation is applied; palettes become colours; alpha is
dropped, as the field's loaders do; 16-bit grey keeps its high byte; CMYK
becomes RGB.
"""

import numpy as np


def decode_image(file, channels):
  """Decodes a JPEG or PNG file.

  Args:
    file: a path or a binary file object.
    channels: 1 for grey, 3 for RGB.

  Returns:
    uint8[h, w, channels].

  Raises:
    Exception: whatever Pillow raises for bytes that it cannot read; the
      caller knows where they are from, and says so.
  """
  from PIL import Image, ImageOps

  with Image.open(file) as image:
    upright = ImageOps.exif_transpose(image)
    return _pixels(upright, channels)


def as_channels(images, channels):
  """Converts uint8[..., 1 or 3] to uint8[..., channels]."""
  if images.shape[-1] == channels:
    return images
  if channels == 3:
    return np.repeat(images, 3, axis=-1)
  # ITU-R 601, as Pillow converts to grey, so that all sources agree.
  weights = np.array([19595, 38470, 7471], np.uint32)
  grey = (images @ weights + 0x8000) >> 16
  return grey[..., None].astype(np.uint8)


def _pixels(image, channels):
  """uint8[h, w, channels] of a Pillow image of any mode."""
  if image.mode.startswith("I"):
    # Pillow would clip 16 bits at 255.
    grey = np.asarray(image).astype(np.int64) >> 8
    pixels = np.clip(grey, 0, 255).astype(np.uint8)[..., None]
  elif image.mode in ("1", "L", "LA"):
    pixels = np.array(image.convert("L"))[..., None]
  else:
    if image.mode in ("P", "PA"):
      # Through RGBA: Pillow warns of palettes with transparency otherwise.
      image = image.convert("RGBA")
    pixels = np.array(image.convert("RGB"))
  return as_channels(pixels, channels)
