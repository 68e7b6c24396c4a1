import dataclasses
import io

import grain
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image

from proxyless_jax.data import augment, eval_batches, load, train_batches
from proxyless_jax.data.dataset import Subset
from proxyless_jax.data.decode import EncodedImage
from proxyless_jax.data.sources import ArraySource


@pytest.fixture
def subset():
  """Eleven images of a source of thirteen; image i is i all over."""
  values = np.arange(13, dtype=np.uint8)
  images = np.broadcast_to(values[:, None, None, None], (13, 8, 8, 1))
  source = ArraySource(images, values.astype(np.int32), tuple("abcdefghijklm"))
  return Subset(source, np.arange(1, 12))


@pytest.fixture
def make_plain(make_options):
  """Options without augmentation, for images of 8x8."""

  def make(**fields):
    plain = {"image_size": 8, "crop": "none", "flip": False}
    return make_options(**{**plain, **fields})

  return make


def take(iterator, count):
  return [next(iterator) for _ in range(count)]


def labels_of(batches):
  return np.concatenate([batch["label"] for batch in batches])


def assert_same(batches, others):
  assert len(batches) == len(others)
  for batch, other in zip(batches, others):
    assert batch.keys() == other.keys()
    for name in batch:
      np.testing.assert_array_equal(batch[name], other[name])


def test_train_batch_is_normalised_images_labels_and_ones(subset, make_plain):
  batch = next(train_batches(subset, make_plain(), batch=4, seed=0))
  assert {name: (v.shape, v.dtype) for name, v in batch.items()} == {
    "image": ((4, 8, 8, 1), np.float32),
    "label": ((4,), np.int32),
    "mask": ((4,), np.float32),
  }
  wanted = (batch["label"] / 255 - 0.5) / 0.25
  np.testing.assert_allclose(batch["image"][:, 3, 2, 0], wanted, rtol=1e-6)
  assert (batch["mask"] == 1).all()


@pytest.mark.parametrize("batch", [1, 4, 11, 25])
def test_every_epoch_sees_every_image_once(subset, make_plain, batch):
  iterator = train_batches(subset, make_plain(), batch=batch, seed=0)
  stream = labels_of(take(iterator, 44 // batch + 1))[:44].reshape(-1, 11)
  for epoch in stream:
    np.testing.assert_array_equal(np.sort(epoch), np.arange(1, 12))
  assert len({tuple(epoch) for epoch in stream}) == len(stream)


def test_seed_decides_order_and_augmentation(make_options):
  options = make_options(flip=True)
  dataset = load(options)
  first, again, other = (
    take(train_batches(dataset.weights, options, batch=32, seed=seed), 3)
    for seed in (0, 0, 1)
  )
  assert_same(first, again)
  assert (labels_of(first) != labels_of(other)).any()


def test_epochs_of_neighbouring_seeds_differ(subset, make_plain):
  first, second = (
    labels_of(take(train_batches(subset, make_plain(), batch=11, seed=s), 4))
    for s in (0, 1)
  )
  assert (first[11:] != second[:-11]).any()


@pytest.mark.parametrize("crop", ["none", "pad", "resized"])
@pytest.mark.parametrize("flip", [False, True])
def test_augmentation_is_drawn_anew(make_options, crop, flip):
  options = make_options(crop=crop, flip=flip, image_size=20)
  digit = Subset(load(options).train.source, np.array([1234]))
  images = next(train_batches(digit, options, batch=64, seed=0))["image"]
  kinds = len(np.unique(images.reshape(64, -1), axis=0))
  if crop == "none":
    assert kinds == (2 if flip else 1)
  else:
    assert kinds > 18


@pytest.mark.parametrize(("workers", "workers_then"), [(0, 0), (2, 2), (2, 0)])
def test_restored_by_orbax_the_rest_is_the_same_bit_for_bit(
  tmp_path, make_options, workers, workers_then
):
  options = make_options(flip=True, workers=workers)
  weights = load(options).weights
  iterator = train_batches(weights, options, batch=300, seed=5)
  take(iterator, 5)
  save = grain.checkpoint.CheckpointSave(iterator)
  with ocp.CheckpointManager(tmp_path) as manager:
    manager.save(5, args=ocp.args.Composite(data=save))
    manager.wait_until_finished()
    rest = take(iterator, 5)
    iterator.close()

    options = make_options(flip=True, workers=workers_then)
    restored = train_batches(weights, options, batch=300, seed=5)
    restore = grain.checkpoint.CheckpointRestore(restored)
    manager.restore(5, args=ocp.args.Composite(data=restore))
    assert_same(take(restored, 5), rest)
    restored.close()


def test_state_goes_back(make_options):
  options = make_options()
  iterator = train_batches(load(options).arch, options, batch=64, seed=3)
  take(iterator, 3)
  state = iterator.get_state()
  rest = take(iterator, 40)
  iterator.set_state(state)
  assert iterator.get_state() == state
  assert_same(take(iterator, 40), rest)


@pytest.mark.parametrize(
  ("batch", "workers"), [(4, 0), (11, 0), (16, 0), (4, 2)]
)
def test_eval_covers_each_image_once_in_order(
  subset, make_plain, batch, workers
):
  batches = eval_batches(subset, make_plain(workers=workers), batch=batch)
  for _ in range(1 if workers else 2):
    seen = list(batches)
    assert all(values.shape[0] == batch for b in seen for values in b.values())
    mask = np.concatenate([b["mask"] for b in seen])
    np.testing.assert_array_equal(mask, np.arange(len(mask)) < 11)
    np.testing.assert_array_equal(labels_of(seen)[:11], np.arange(1, 12))
    images = np.concatenate([b["image"] for b in seen])[:, 0, 0, 0]
    wanted = (np.arange(1, 12) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(images[:11], wanted, rtol=1e-6)
    assert (images[11:] == 0).all()


@pytest.mark.parametrize("crop", ["none", "pad", "resized"])
@pytest.mark.parametrize("size", [(20, 20), (12, 20)])
def test_eval_resizes_and_takes_the_centre_of_resized(make_options, crop, size):
  options = make_options(crop=crop, image_size=size)
  test = load(options).test
  batch = next(iter(eval_batches(test, options, batch=3)))
  image = test.source[test.indices[2]]["image"]
  box = augment.centre_box(28, 28, size) if crop == "resized" else None
  wanted = augment.pixels(augment.resize(image, size, box))
  assert wanted.shape == (*size, 1)
  np.testing.assert_allclose(
    batch["image"][2], (wanted / 255 - 0.5) / 0.25, rtol=1e-5, atol=1e-6
  )


@pytest.mark.parametrize("batch", [0, -3, 2.0, True])
def test_batch_must_be_positive(subset, make_plain, batch):
  match = f"batch={batch}: expected an integer of 1 or more"
  with pytest.raises(ValueError, match=match):
    train_batches(subset, make_plain(), batch=batch, seed=0)
  with pytest.raises(ValueError, match=match):
    eval_batches(subset, make_plain(), batch=batch)


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5])
def test_seed_must_be_32_bits(subset, make_plain, seed):
  with pytest.raises(ValueError, match=f"seed={seed}: expected an integer"):
    train_batches(subset, make_plain(), batch=2, seed=seed)


def test_empty_subset(subset, make_plain):
  nothing = Subset(subset.source, np.arange(0))
  with pytest.raises(ValueError, match="expected at least one image"):
    train_batches(nothing, make_plain(), batch=2, seed=0)
  with pytest.raises(ValueError, match="expected at least one image"):
    eval_batches(nothing, make_plain(), batch=2)


def test_augmented_stream_is_a_function_of_seed_and_number(make_photos):
  options = make_photos()
  train = load(options).train
  first = take(train_batches(train, options, batch=16, seed=3), 6)
  again = train_batches(train, options, batch=16, seed=3)
  again.set_state({"next_index": 4, "images": len(train)})
  assert_same(take(again, 2), first[4:])
  options = make_photos(workers=2)
  workers = train_batches(train, options, batch=16, seed=3)
  assert_same(take(workers, 5), first[:5])
  workers.set_state({"next_index": 2, "images": len(train)})
  assert_same(take(workers, 2), first[2:4])
  workers.close()


def test_a_stream_without_augmentation_shuffles_alone(make_photos):
  options = make_photos()
  train = load(options).train
  stream = train_batches(train, options, batch=48, seed=3, augmented=False)
  batch = next(stream)
  (whole,) = eval_batches(train, options, batch=48)
  assert (batch["label"] != whole["label"]).any()
  found = {image.tobytes() for image in batch["image"]}
  assert found == {image.tobytes() for image in whole["image"]}


def test_cutout_is_zero_after_normalising(make_photos):
  options = make_photos(cutout=9)
  train = load(options).train
  batch = next(train_batches(train, options, batch=48, seed=0))
  counts = set()
  for image in batch["image"]:
    zero = (image == 0).all(-1)
    rows, columns = np.flatnonzero(zero.any(1)), np.flatnonzero(zero.any(0))
    assert np.ptp(rows) < 9
    assert np.ptp(columns) < 9
    assert zero[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    counts.add(int(zero.sum()))
  assert max(counts) == 81
  assert len(counts) > 3  # Some stick out.


@pytest.mark.parametrize("crop", ["none", "pad", "resized"])
def test_rectangles_of_images_in_files(make_photos, crop):
  """JPEGs, some upright and some not, with all that is done to them."""
  files = []
  for i, shape in enumerate([(40, 60, 3), (70, 31, 3)] * 4):
    pixels = np.random.default_rng(i).integers(1, 256, shape, np.uint8)
    Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG")
    image = EncodedImage(file.getvalue(), 3, f"image {i}")
    files.append({"image": image, "label": i})
  options = make_photos(image_size=(14, 26), crop=crop)
  train = Subset(files, np.arange(8))
  (batch,) = take(train_batches(train, options, batch=8, seed=0), 1)
  assert batch["image"].shape == (8, 14, 26, 3)
  zeros = (batch["image"] == 0).all(-1)
  assert zeros.any((0, 2)).all()  # Cutouts lie anywhere,
  assert zeros[:, :, 14:].any()  # right of the height too.
  (tested,) = eval_batches(train, options, batch=8)
  assert tested["image"].shape == (8, 14, 26, 3)


def test_a_square_is_one_number_or_two(make_photos):
  one, two = make_photos(image_size=24), make_photos(image_size=(24, 24))
  assert one == two and hash(one) == hash(two) and two.image_size == 24
  streams = [
    train_batches(load(options).train, options, batch=8, seed=0)
    for options in (one, two)
  ]
  assert_same(*(take(stream, 2) for stream in streams))


@pytest.mark.parametrize("field", ["brightness", "saturation"])
def test_jitter_changes_training_alone(make_photos, field):
  options = make_photos(
    crop="none", flip=False, brightness=0.0, saturation=0.0, cutout=0
  )
  jittered = dataclasses.replace(options, **{field: 0.5})
  train = load(options).train
  plain, changed = (
    next(train_batches(train, o, batch=20, seed=0))["image"]
    for o in (options, jittered)
  )
  assert (np.abs(plain - changed).mean((1, 2, 3)) > 0.01).sum() > 15
  plain, changed = (
    next(iter(eval_batches(train, o, batch=20)))["image"]
    for o in (options, jittered)
  )
  np.testing.assert_array_equal(plain, changed)


def test_a_stream_of_other_images_is_refused(make_photos):
  """Without some of its files, a folder would silently have another order."""
  options = make_photos()
  train = load(options).train
  state = train_batches(train, options, batch=4, seed=0).get_state()
  fewer = dataclasses.replace(train, indices=train.indices[:-1])
  stream = train_batches(fewer, options, batch=4, seed=0)
  with pytest.raises(ValueError, match="expected 48 images in this split"):
    stream.set_state(state)
