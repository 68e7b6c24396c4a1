import numpy as np
from PIL import Image

from proxyless_jax.data import augment


def images(*shape):
  return np.random.default_rng(0).integers(1, 256, shape, np.uint8)


def test_resize_leaves_the_right_size_alone():
  image = images(8, 8, 3)
  assert augment.resize(image, 8) is image


def test_resize_is_bilinear_with_antialiasing():
  image = images(40, 30, 3)
  wanted = Image.fromarray(image).resize((8, 8), Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(augment.resize(image, 8), np.asarray(wanted))
  assert augment.resize(images(5, 7, 1), 9).shape == (9, 9, 1)
  flat = np.full((40, 30, 1), 77, np.uint8)
  assert (augment.resize(flat, 9, (3, 2, 20.5, 31)) == 77).all()


def test_centre_box_is_resize_then_crop():
  y, x = np.mgrid[:120, :160]
  image = (x + y)[..., None].clip(0, 255).astype(np.uint8)
  box = augment.centre_box(120, 160)
  assert box == (27.5, 7.5, 132.5, 112.5)
  # 28 / 0.875 = 32: the shorter side to 32, then the centre 28.
  resized = Image.fromarray(image[..., 0]).resize(
    (round(160 * 32 / 120), 32), Image.Resampling.BILINEAR
  )
  left = (resized.width - 28) / 2
  wanted = np.asarray(resized, float)[2:30, int(left) : int(left) + 28]
  difference = augment.resize(image, 28, box)[..., 0] - wanted
  assert np.abs(difference).mean() < 2.5


def test_random_box_keeps_area_aspect_and_bounds():
  rng = np.random.default_rng(0)
  areas = []
  for _ in range(500):
    left, top, right, bottom = augment.random_box(100, 140, 0.25, rng)
    assert 0 <= left < right <= 140
    assert 0 <= top < bottom <= 100
    areas.append((right - left) * (bottom - top) / 14000)
    assert 0.73 < (right - left) / (bottom - top) < 1.36
  assert 0.24 < min(areas) < 0.3
  assert max(areas) > 0.85


def test_random_box_of_a_strip_falls_back_to_the_centre():
  rng = np.random.default_rng(0)
  wide = augment.random_box(10, 1000, 1.0, rng)
  np.testing.assert_allclose(wide, (500 - 20 / 3, 0, 500 + 20 / 3, 10))
  tall = augment.random_box(1000, 9, 1.0, rng)
  np.testing.assert_allclose(tall, (0, 494, 9, 506))


def test_pad_and_crop_shifts_with_black():
  batch = images(64, 6, 6, 3)
  crops = augment.pad_and_crop(batch, 2, np.random.default_rng(0))
  assert crops.shape == batch.shape
  padded = np.pad(batch, ((0, 0), (2, 2), (2, 2), (0, 0)))
  shifts = set()
  for image, crop in zip(padded, crops):
    found = [
      (top, left)
      for top in range(5)
      for left in range(5)
      if (image[top : top + 6, left : left + 6] == crop).all()
    ]
    assert len(found) == 1
    shifts |= set(found)
  assert len(shifts) > 18


def test_flip_mirrors_half_in_place():
  batch = images(400, 3, 4, 1)
  before = batch.copy()
  augment.flip(batch, np.random.default_rng(0))
  flipped = (batch == before[:, :, ::-1]).all((1, 2, 3))
  kept = (batch == before).all((1, 2, 3))
  assert (flipped ^ kept).all()
  assert 160 < flipped.sum() < 240


def test_normalise():
  batch = images(2, 3, 3, 3)
  mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.1)
  normalised = augment.normalise(batch, mean, std)
  assert normalised.dtype == np.float32
  np.testing.assert_allclose(
    normalised, (batch / 255 - mean) / std, rtol=1e-5, atol=1e-5
  )
