import pickle

import numpy as np
import pytest

from proxyless_jax.data import eval_batches, load, train_batches
from proxyless_jax.data.generated import GeneratedSource


def test_images_are_a_function_of_their_number():
  source = GeneratedSource(10, 40, 64, 3)
  again = pickle.loads(pickle.dumps(source))
  for i in (0, 17, 39):
    np.testing.assert_array_equal(source[i]["image"], again[i]["image"])
    assert source[i]["label"] == i % 10 == source.labels[i]
  assert (source.classes, len(source), len(source.names)) == (10, 40, 10)
  with pytest.raises(IndexError, match="index 40"):
    source[40]


@pytest.mark.parametrize("channels", [1, 3])
def test_sizes_are_larger_than_the_crop_and_varied(channels):
  source = GeneratedSource(5, 30, 32, channels)
  shapes = {source[i]["image"].shape for i in range(30)}
  assert len(shapes) > 20
  assert min(min(shape[:2]) for shape in shapes) > 32
  assert {shape[2] for shape in shapes} == {channels}
  image = source[3]["image"]
  assert image.dtype == np.uint8
  assert 15 < image.std() < 90


def test_sizes_follow_the_sides_of_a_rectangle():
  source = GeneratedSource(5, 40, (16, 48), 1)
  sides = np.array([source[i]["image"].shape[:2] for i in range(40)])
  assert (sides > (16, 48)).all() and (sides < (36, 107)).all()
  assert np.ptp(sides, axis=0).min() > 10


def test_classes_can_be_distinguished():
  source = GeneratedSource(10, 400, 32, 3)
  means = np.array([source[i]["image"].mean((0, 1)) for i in range(400)])
  hues = means - means.mean(1, keepdims=True)
  hues /= np.linalg.norm(hues, axis=1, keepdims=True)
  centres = np.stack([hues[:200][source.labels[:200] == k] for k in range(10)])
  found = (hues[200:] @ centres.mean(1).T).argmax(1)
  assert (found == source.labels[200:]).mean() > 0.9
  same = [source[i]["image"].mean() for i in range(0, 400, 10)]
  assert np.std(same) > 5  # One class is not one image.


def test_goes_through_split_and_augmentation(make_options):
  options = make_options(
    source="generated",
    generated_classes=4,
    generated_images=50,
    image_size=16,
    channels=3,
    crop="resized",
    flip=True,
    brightness=32 / 255,
    saturation=0.5,
    cutout=4,
  )
  dataset = load(options)
  assert (len(dataset.test), len(dataset.train)) == (10, 40)
  assert dataset.classes == 4
  batch = next(train_batches(dataset.train, options, batch=40, seed=0))
  assert batch["image"].shape == (40, 16, 16, 3)
  assert np.unique(batch["label"]).tolist() == [0, 1, 2, 3]
  tested = next(iter(eval_batches(dataset.test, options, batch=16)))
  assert tested["mask"].sum() == 10
