import numpy as np
import pytest
from PIL import Image, ImageEnhance

from proxyless_jax.data import augment


def images(*shape):
  return np.random.default_rng(0).integers(1, 256, shape, np.uint8)


def test_resize_leaves_the_right_size_alone():
  image = images(8, 8, 3)
  assert augment.resize(image, 8) is image
  picture = Image.fromarray(image)
  assert augment.resize(picture, 8) is picture


def test_resize_is_bilinear_with_antialiasing():
  image = images(40, 30, 3)
  wanted = Image.fromarray(image).resize((8, 8), Image.Resampling.BILINEAR)
  for given in (image, Image.fromarray(image)):
    resized = augment.pixels(augment.resize(given, 8))
    np.testing.assert_array_equal(resized, np.asarray(wanted))
  resized = augment.pixels(augment.resize(images(5, 7, 1), 9))
  assert resized.shape == (9, 9, 1)
  flat = np.full((40, 30, 1), 77, np.uint8)
  assert (augment.pixels(augment.resize(flat, 9, (3, 2, 20.5, 31))) == 77).all()


def test_crop_and_resize_sees_nothing_outside_the_crop():
  image = images(40, 30, 3)
  box = (4, 7, 21, 33)
  wanted = Image.fromarray(image[7:33, 4:21]).resize(
    (12, 12), Image.Resampling.BILINEAR
  )
  resized = augment.pixels(augment.crop_and_resize(image, 12, box))
  np.testing.assert_array_equal(resized, np.asarray(wanted))


@pytest.mark.parametrize(
  ("height", "width"), [(375, 500), (500, 375), (333, 333), (100, 251)]
)
@pytest.mark.parametrize("size", [224, 32])
def test_centre_box_is_resize_to_256_then_crop_224(height, width, size):
  image = Image.fromarray(images(height, width, 3))
  short = {224: 256, 32: 37}[size]
  if width <= height:
    sides = short, int(short * height / width)
  else:
    sides = int(short * width / height), short
  resized = image.resize(sides, Image.Resampling.BILINEAR)
  left, top = (round((side - size) / 2) for side in sides)
  wanted = np.asarray(resized.crop((left, top, left + size, top + size)), int)
  box = augment.centre_box(height, width, size)
  found = augment.pixels(augment.resize(image, size, box)).astype(int)
  # Pillow rounds its filter's weights after other sums.
  assert np.abs(found - wanted).max() <= 1
  assert (found == wanted).mean() > 0.99


def test_random_box_keeps_area_aspect_and_bounds():
  rng = np.random.default_rng(0)
  areas = []
  for _ in range(500):
    draws = rng.random(augment.BOX_DRAWS)
    left, top, right, bottom = augment.random_box(100, 140, 0.25, draws)
    assert 0 <= left < right <= 140
    assert 0 <= top < bottom <= 100
    areas.append((right - left) * (bottom - top) / 14000)
    assert 0.73 < (right - left) / (bottom - top) < 1.36
  assert 0.24 < min(areas) < 0.3
  assert max(areas) > 0.85


def test_random_box_of_a_strip_falls_back_to_the_centre():
  draws = np.random.default_rng(0).random(augment.BOX_DRAWS)
  wide = augment.random_box(10, 1000, 1.0, draws)
  assert wide == (493, 0, 506, 10)
  tall = augment.random_box(1000, 9, 1.0, draws)
  assert tall == (0, 494, 9, 506)


def test_pad_and_crop_shifts_with_black():
  batch = images(64, 6, 6, 3)
  corners = np.random.default_rng(0).integers(5, size=(64, 2))
  crops = augment.pad_and_crop(batch, 2, corners)
  assert crops.shape == batch.shape
  padded = np.pad(batch, ((0, 0), (2, 2), (2, 2), (0, 0)))
  for image, crop, (top, left) in zip(padded, crops, corners):
    wanted = image[top : top + 6, left : left + 6]
    np.testing.assert_array_equal(crop, wanted)


def test_flip_mirrors_arrays_and_pictures():
  image = images(3, 4, 3)
  np.testing.assert_array_equal(augment.flip(image), image[:, ::-1])
  flipped = augment.pixels(augment.flip(Image.fromarray(image)))
  np.testing.assert_array_equal(flipped, image[:, ::-1])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(
  ("bright", "saturated"), [(0.9, 1.4), (1.12, 0.5), (1.1, 1.5), (0.88, 0.7)]
)
def test_jitter_is_the_published_one(order, bright, saturated):
  image = images(30, 20, 3)
  # The draws of these factors.
  of_factors = [
    ((bright, saturated)[i] - 1) / (2 * (32 / 255, 0.5)[i]) + 0.5 for i in order
  ]
  draws = np.array([0.5 * order[0], *of_factors])
  jittered = augment.jitter(image, 32 / 255, 0.5, draws)
  # Written out: a mix with black, and one with the grey image.
  wanted = image.astype(float)
  for i in order:
    if i == 0:
      wanted = wanted * bright
    else:
      grey = np.round(wanted @ (0.299, 0.587, 0.114))[..., None]
      wanted = grey + saturated * (wanted - grey)
    wanted = np.floor(np.clip(wanted, 0, 255) + 1e-4)
  assert np.abs(augment.pixels(jittered) - wanted).max() <= 1
  # And as torchvision's ColorJitter calls Pillow.
  picture = Image.fromarray(image)
  for i in order:
    enhancer = (ImageEnhance.Brightness, ImageEnhance.Color)[i]
    picture = enhancer(picture).enhance((bright, saturated)[i])
  np.testing.assert_array_equal(augment.pixels(jittered), np.asarray(picture))


def test_jitter_draws_factors_and_order():
  image = np.full((2, 2, 3), (120, 60, 30), np.uint8)
  draws = np.random.default_rng(0).random((200, augment.JITTER_DRAWS))
  bright = [
    augment.pixels(augment.jitter(image, 0.25, 0, draw))[0, 0] for draw in draws
  ]
  ratios = np.array(bright) / (120, 60, 30)
  assert np.ptp(ratios, axis=1).max() < 0.04  # The channels stay in proportion.
  assert 0.71 < ratios.min() < 0.8
  assert 1.2 < ratios.max() <= 1.25
  grey = augment.pixels(augment.jitter(image[..., :1], 0.25, 0, draws[0]))
  assert grey.shape == (2, 2, 1)
  saturated = [
    augment.pixels(augment.jitter(image, 0, 1.5, draw))[0, 0] for draw in draws
  ]
  greys = np.array(saturated) @ (0.299, 0.587, 0.114)
  unclipped = np.min(saturated, axis=1) > 0
  assert np.ptp(greys[unclipped]) < 2  # Brightness stays.
  assert np.ptp(np.array(saturated)[:, 0]) > 100


def test_cut_zeroes_a_square_that_may_stick_out():
  batch = np.ones((4, 10, 12, 2), np.float32)
  centres = np.array([[5, 6], [0, 0], [9, 11], [1, 10]])
  augment.cut(batch, centres, 4)
  zeros = [(image == 0).all(-1) for image in batch]
  assert [int(zero.sum()) for zero in zeros] == [16, 4, 9, 12]
  assert zeros[0][3:7, 4:8].all()
  assert zeros[1][:2, :2].all()
  assert zeros[2][7:, 9:].all()
  assert zeros[3][:3, 8:].all()
  odd = np.ones((1, 10, 12, 2), np.float32)
  augment.cut(odd, centres[:1], 3)
  assert (odd[0, 4:7, 5:8] == 0).all()
  assert (odd == 0).sum() == 2 * 9


@pytest.mark.parametrize("shape", [(2, 3, 3, 3), (3, 100, 90, 3), (5, 9, 8, 1)])
def test_normalise(shape):
  batch = images(*shape)
  mean, std = (0.5, 0.4, 0.3)[: shape[-1]], (0.2, 0.3, 0.1)[: shape[-1]]
  normalised = np.empty(shape, np.float32)
  augment.normalise(batch, mean, std, normalised)
  np.testing.assert_allclose(
    normalised, (batch / 255 - mean) / std, rtol=1e-5, atol=1e-5
  )
