import io

import numpy as np
import pytest
from PIL import Image

from proxyless_jax.data.decode import as_channels, decode_image

GRADIENT = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)


def encoded(image, form="PNG", **kwargs):
  file = io.BytesIO()
  image.save(file, form, **kwargs)
  file.seek(0)
  return file


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
  ("mode", "form"),
  [
    ("1", "PNG"),
    ("L", "PNG"),
    ("LA", "PNG"),
    ("P", "PNG"),
    ("RGB", "PNG"),
    ("RGBA", "PNG"),
    ("L", "JPEG"),
    ("RGB", "JPEG"),
    ("CMYK", "JPEG"),
  ],
)
def test_every_mode_becomes_the_channels(mode, form, channels):
  image = Image.fromarray(GRADIENT).convert(mode)
  pixels = decode_image(encoded(image, form, quality=100), channels)
  assert pixels.shape == (8, 6, channels)
  assert pixels.dtype == np.uint8
  if mode not in ("1", "P"):
    wanted = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    difference = pixels.astype(int) - wanted.reshape(pixels.shape)
    assert np.abs(difference).max() <= (0 if form == "PNG" else 8)


def test_16_bit_keeps_the_high_byte():
  grey = (np.arange(48, dtype=np.uint16) * 1300).reshape(6, 8)
  pixels = decode_image(encoded(Image.fromarray(grey)), 3)
  np.testing.assert_array_equal(pixels[..., 0], grey >> 8)
  np.testing.assert_array_equal(pixels[..., 2], grey >> 8)


def test_palette_with_transparency(recwarn):
  image = Image.fromarray(GRADIENT).quantize(8)
  file = encoded(image, transparency=bytes(range(8)))
  pixels = decode_image(file, 3)
  np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))
  assert not recwarn


def test_exif_orientation_is_applied():
  exif = Image.Exif()
  exif[0x0112] = 6
  image = Image.fromarray(GRADIENT)
  pixels = decode_image(encoded(image, exif=exif), 3)
  np.testing.assert_array_equal(pixels, np.rot90(GRADIENT, -1))


def test_as_channels_agrees_with_pillow():
  images = np.random.default_rng(0).integers(0, 256, (4, 9, 7, 3), np.uint8)
  grey = as_channels(images, 1)
  wanted = [np.asarray(Image.fromarray(image).convert("L")) for image in images]
  np.testing.assert_array_equal(grey[..., 0], wanted)
  np.testing.assert_array_equal(as_channels(grey, 3)[..., 1], grey[..., 0])
  assert as_channels(images, 3) is images
