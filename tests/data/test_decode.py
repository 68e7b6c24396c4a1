import io

import numpy as np
import pytest
from PIL import Image

from proxyless_jax.data.augment import pixels
from proxyless_jax.data.decode import EncodedImage, as_channels, decode_image

GRADIENT = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)


def decoded(file, channels):
  return pixels(decode_image(file, channels))


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
  values = decoded(encoded(image, form, quality=100), channels)
  assert values.shape == (8, 6, channels)
  assert values.dtype == np.uint8
  if mode not in ("1", "P"):
    wanted = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    difference = values.astype(int) - wanted.reshape(values.shape)
    assert np.abs(difference).max() <= (0 if form == "PNG" else 8)


def test_16_bit_keeps_the_high_byte():
  grey = (np.arange(48, dtype=np.uint16) * 1300).reshape(6, 8)
  values = decoded(encoded(Image.fromarray(grey)), 3)
  np.testing.assert_array_equal(values[..., 0], grey >> 8)
  np.testing.assert_array_equal(values[..., 2], grey >> 8)


def test_palette_with_transparency(recwarn):
  image = Image.fromarray(GRADIENT).quantize(8)
  file = encoded(image, transparency=bytes(range(8)))
  values = decoded(file, 3)
  np.testing.assert_array_equal(values, np.asarray(image.convert("RGB")))
  assert not recwarn


def test_exif_orientation_is_applied():
  exif = Image.Exif()
  exif[0x0112] = 6
  image = Image.fromarray(GRADIENT)
  values = decoded(encoded(image, exif=exif), 3)
  np.testing.assert_array_equal(values, np.rot90(GRADIENT, -1))


def test_as_channels_agrees_with_pillow():
  images = np.random.default_rng(0).integers(0, 256, (4, 9, 7, 3), np.uint8)
  grey = as_channels(images, 1)
  wanted = [np.asarray(Image.fromarray(image).convert("L")) for image in images]
  np.testing.assert_array_equal(grey[..., 0], wanted)
  np.testing.assert_array_equal(as_channels(grey, 3)[..., 1], grey[..., 0])
  assert as_channels(images, 3) is images


NOISE = np.random.default_rng(0).integers(0, 256, (75, 101, 3), np.uint8)


def encoded_image(mode="RGB", form="JPEG", channels=3, **kwargs):
  image = Image.fromarray(NOISE).convert(mode)
  data = encoded(image, form, **kwargs).getvalue()
  return EncodedImage(data, channels, "photo 7")


@pytest.mark.parametrize(
  ("kwargs", "plain"),
  [
    ({"subsampling": 0}, True),
    ({"subsampling": 1}, True),
    ({"subsampling": 2}, True),
    ({"subsampling": 2, "restart_marker_rows": 1}, True),
    ({"subsampling": 2, "quality": 100, "optimize": True}, True),
    ({"mode": "L"}, True),
    ({"mode": "L", "channels": 1}, True),
    ({"channels": 1}, True),
    ({"mode": "CMYK"}, True),
    ({"progressive": True}, False),
    ({"form": "PNG"}, False),
    ({"mode": "LA", "form": "PNG"}, False),
  ],
)
def test_a_crop_is_that_of_the_whole_image(kwargs, plain):
  image = encoded_image(**kwargs)
  assert (image._frame is not None) == plain
  assert (image.height, image.width) == (75, 101)
  whole = decode_image(io.BytesIO(image.data), image.channels)
  for bottom in range(2, 76):
    box = (bottom % 7, bottom // 3, 101 - bottom % 5, bottom)
    cropped = encoded_image(**kwargs).crop(box)
    assert cropped.mode == whole.mode
    np.testing.assert_array_equal(cropped, whole.crop(box))


def test_rows_below_a_crop_are_not_decoded(monkeypatch):
  image = encoded_image()
  sizes = []
  load = Image.Image.crop
  monkeypatch.setattr(
    Image.Image, "crop", lambda i, box: (sizes.append(i.size), load(i, box))[1]
  )
  image.crop((0, 0, 50, 30))
  image.crop((0, 0, 50, 70))
  assert sizes == [(101, 38), (101, 75)]


def test_a_turned_image_is_cropped_upright():
  exif = Image.Exif()
  exif[0x0112] = 6
  image = encoded_image(exif=exif)
  assert (image.height, image.width) == (101, 75)
  whole = decode_image(io.BytesIO(image.data), 3)
  np.testing.assert_array_equal(
    image.crop((5, 6, 40, 20)), whole.crop((5, 6, 40, 20))
  )


@pytest.mark.parametrize("kept", [0, 1, 2, 3, 20, 160, 400, 640])
def test_damaged_files_are_named(kept):
  image = encoded_image()
  damaged = EncodedImage(image.data[:kept], 3, "photo 7")
  match = r"^photo 7: expected a JPEG or PNG image.*; restore it in data\.path,"
  with pytest.raises(ValueError, match=match):
    damaged.crop((0, 0, 20, 30))
  with pytest.raises(ValueError, match=match):
    _ = damaged.decoded
