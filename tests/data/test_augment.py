import numpy as np
import pytest
from PIL import Image, ImageEnhance

from proxyless_jax.data import augment


def images(*shape):
  return np.random.default_rng(0).integers(1, 256, shape, np.uint8)


def test_resize_leaves_the_right_size_alone():
  image = images(8, 8, 3)
  assert augment.resize(image, (8, 8)) is image
  picture = Image.fromarray(image)
  assert augment.resize(picture, (8, 8)) is picture
  wide = images(6, 9, 3)
  assert augment.resize(wide, (6, 9)) is wide


def test_resize_is_bilinear_with_antialiasing():
  image = images(40, 30, 3)
  for height, width in ((8, 8), (6, 11)):
    sides = (width, height)  # Pillow's order.
    wanted = Image.fromarray(image).resize(sides, Image.Resampling.BILINEAR)
    for given in (image, Image.fromarray(image)):
      resized = augment.pixels(augment.resize(given, (height, width)))
      np.testing.assert_array_equal(resized, np.asarray(wanted))
  resized = augment.pixels(augment.resize(images(5, 7, 1), (9, 9)))
  assert resized.shape == (9, 9, 1)
  flat = np.full((40, 30, 1), 77, np.uint8)
  part = augment.resize(flat, (9, 9), (3, 2, 20.5, 31))
  assert (augment.pixels(part) == 77).all()


def test_crop_and_resize_sees_nothing_outside_the_crop():
  image = images(40, 30, 3)
  box = (4, 7, 21, 33)
  wanted = Image.fromarray(image[7:33, 4:21]).resize(
    (12, 12), Image.Resampling.BILINEAR
  )
  resized = augment.pixels(augment.crop_and_resize(image, (12, 12), box))
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
  box = augment.centre_box(height, width, (size, size))
  found = augment.pixels(augment.resize(image, (size, size), box)).astype(int)
  # Pillow rounds its filter's weights after other sums.
  assert np.abs(found - wanted).max() <= 1
  assert (found == wanted).mean() > 0.99


@pytest.mark.parametrize("size", [(8, 8), (10, 16)])
def test_random_box_keeps_area_aspect_and_bounds(size):
  rng = np.random.default_rng(0)
  areas = []
  for _ in range(500):
    draws = rng.random(augment.BOX_DRAWS)
    box = augment.random_box(100, 140, 0.25, draws, size)
    left, top, right, bottom = box
    assert 0 <= left < right <= 140
    assert 0 <= top < bottom <= 100
    areas.append((right - left) * (bottom - top) / 14000)
    aspect = (right - left) / (bottom - top)
    assert 0.73 < aspect * size[0] / size[1] < 1.36
  assert 0.24 < min(areas) < 0.3
  assert max(areas) > 0.85


@pytest.mark.parametrize(
  ("height", "width"), [(375, 500), (500, 375), (333, 333), (100, 251)]
)
@pytest.mark.parametrize("size", [(96, 160), (70, 28)])
def test_centre_box_of_a_rectangle_keeps_the_aspect(height, width, size):
  """The whole image enlarged until it covers size / 0.875, and its centre."""
  image = Image.fromarray(images(height, width, 3))
  covered = [round(side / 0.875) for side in size]
  scale = max(covered[0] / height, covered[1] / width)
  sides = int(width * scale + 1e-9), int(height * scale + 1e-9)
  resized = image.resize(sides, Image.Resampling.BILINEAR)
  left, top = (round((n - m) / 2) for n, m in zip(sides, size[::-1]))
  wanted = resized.crop((left, top, left + size[1], top + size[0]))
  wanted = np.asarray(wanted, int)
  left, top, right, bottom = box = augment.centre_box(height, width, size)
  assert 0 <= left < right <= width and 0 <= top < bottom <= height
  aspect = (right - left) / (bottom - top)
  assert aspect == pytest.approx(size[1] / size[0], rel=0.02)
  found = augment.pixels(augment.resize(image, size, box)).astype(int)
  assert found.shape == (*size, 3)
  assert np.abs(found - wanted).max() <= 1
  assert (found == wanted).mean() > 0.95


def test_random_box_of_a_strip_falls_back_to_the_centre():
  draws = np.random.default_rng(0).random(augment.BOX_DRAWS)
  wide = augment.random_box(10, 1000, 1.0, draws, (8, 8))
  assert wide == (493, 0, 506, 10)
  tall = augment.random_box(1000, 9, 1.0, draws, (8, 8))
  assert tall == (0, 494, 9, 506)
  # 4/3 of the aspect of 2, and 3/4 of it.
  assert augment.random_box(9, 900, 1.0, draws, (8, 16)) == (438, 0, 462, 9)
  assert augment.random_box(900, 9, 1.0, draws, (8, 16)) == (0, 447, 9, 453)
  line = augment.random_box(1, 9, 1.0, draws, (900, 1))
  assert line == (4, 0, 5, 1)  # Never without pixels.


@pytest.mark.parametrize("height, width", [(6, 6), (5, 8)])
def test_pad_and_crop_shifts_with_black(height, width):
  batch = images(64, height, width, 3)
  corners = np.random.default_rng(0).integers(5, size=(64, 2))
  crops = augment.pad_and_crop(batch, 2, corners)
  assert crops.shape == batch.shape
  padded = np.pad(batch, ((0, 0), (2, 2), (2, 2), (0, 0)))
  for image, crop, (top, left) in zip(padded, crops, corners):
    wanted = image[top : top + height, left : left + width]
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
