"""Hosts that share batches: together they read what one alone would."""

import numpy as np
import pytest

from proxyless_jax.data import eval_batches, load, train_batches
from proxyless_jax.data.dataset import Subset

JITTER = {"brightness": 0.2, "saturation": 0.5}
PLAIN = {
  "crop": "none",
  "flip": False,
  "brightness": 0.0,
  "saturation": 0.0,
  "cutout": 0,
}


class Counted:
  """A source that keeps the positions that were read."""

  def __init__(self, source):
    self.source = source
    self.read = []

  def __getitem__(self, index):
    self.read.append(index)
    return self.source[index]


def take(iterator, count):
  return [next(iterator) for _ in range(count)]


def joined(parts):
  """Batches, of the parts that each host has of them."""
  assert len({len(part) for part in parts}) == 1
  return [
    {name: np.concatenate([b[name] for b in batch]) for name in batch[0]}
    for batch in zip(*parts)
  ]


def assert_same(batches, others):
  assert len(batches) == len(others)
  for batch, other in zip(batches, others):
    assert batch.keys() == other.keys()
    for name in batch:
      np.testing.assert_array_equal(batch[name], other[name])


def streams(subset, options, batch, count, **fields):
  """One stream for each of `count` hosts."""
  return [
    train_batches(
      subset, options, batch=batch, seed=3, share=(index, count), **fields
    )
    for index in range(count)
  ]


@pytest.mark.parametrize(
  "fields",
  [
    {},
    {"crop": "pad", "crop_padding": 3},
    PLAIN,
    {**PLAIN, "flip": True},
    {**PLAIN, "crop": "pad", "crop_padding": 3},
    {**PLAIN, "crop": "resized"},
    {**PLAIN, **JITTER},
    {**PLAIN, "brightness": 0.2},
    {**PLAIN, "cutout": 8},
  ],
)
@pytest.mark.parametrize("count", [2, 3, 12])
def test_shares_of_hosts_are_the_batch_of_one(make_photos, fields, count):
  options = make_photos(**fields)
  train = load(options).train  # 48 images: the fifth batch is of two epochs.
  whole = take(train_batches(train, options, batch=12, seed=3), 5)
  parts = [take(s, 5) for s in streams(train, options, 12, count)]
  assert parts[0][0]["image"].shape == (12 // count, 24, 24, 3)
  assert_same(joined(parts), whole)


def test_shares_across_epochs_without_augmentation(make_photos):
  options = make_photos()
  train = load(options).train
  alone = train_batches(train, options, batch=36, seed=3, augmented=False)
  parts = streams(train, options, 36, 4, augmented=False)
  assert_same(joined([take(s, 3) for s in parts]), take(alone, 3))


def test_shares_of_mnist(make_options):
  options = make_options(flip=True)
  weights = load(options).weights
  whole = take(train_batches(weights, options, batch=64, seed=3), 40)
  parts = [take(s, 40) for s in streams(weights, options, 64, 4)]
  assert_same(joined(parts), whole)


def test_shares_by_worker_processes_are_those_by_threads(make_photos):
  options = make_photos()
  train = load(options).train
  whole = take(train_batches(train, options, batch=12, seed=3), 3)
  _, second = streams(train, options, 12, 2)
  options = make_photos(workers=2)
  first = train_batches(train, options, batch=12, seed=3, share=(0, 2))
  assert_same(joined([take(first, 3), take(second, 3)]), whole)
  first.close()


def test_a_host_reads_its_own_images_alone(make_photos):
  options = make_photos()
  train = load(options).train
  for count in (1, 4):
    sources = [Counted(train.source) for _ in range(count)]
    for index, source in enumerate(sources):
      list(
        eval_batches(
          Subset(source, train.indices), options, batch=12, share=(index, count)
        )
      )
    read = [position for source in sources for position in source.read]
    np.testing.assert_array_equal(np.sort(read), train.indices)
    assert len(sources[0].read) == 48 // count
  source = Counted(train.source)
  positions = Subset(source, train.indices)
  stream = train_batches(positions, options, batch=48, seed=0, share=(1, 3))
  stream._batches[0]  # Not ahead, as the iterator.
  assert len(set(source.read)) == len(source.read) == 16


def test_any_number_of_hosts_goes_on_where_others_were(make_photos):
  options = make_photos()
  train = load(options).train
  alone = train_batches(train, options, batch=12, seed=3)
  parts = streams(train, options, 12, 2)
  for stream in (alone, *parts):
    take(stream, 2)
  states = [stream.get_state() for stream in (alone, *parts)]
  assert states == [{"next_index": 2, "images": len(train)}] * 3
  rest = take(alone, 3)
  others = streams(train, options, 12, 3)
  for stream in others:
    stream.set_state(states[1])
  assert_same(joined([take(s, 3) for s in others]), rest)


@pytest.mark.parametrize(
  ("batch", "count"), [(20, 1), (20, 2), (20, 5), (52, 4), (60, 4)]
)
def test_eval_of_all_hosts_covers_each_image_once(make_photos, batch, count):
  options = make_photos()
  train = load(options).train
  whole = list(eval_batches(train, options, batch=batch))
  assert len(whole) == -(-48 // batch)
  parts = [
    list(eval_batches(train, options, batch=batch, share=(index, count)))
    for index in range(count)
  ]
  assert_same(joined(parts), whole)
  assert sum(b["mask"].sum() for part in parts for b in part) == 48


@pytest.mark.parametrize("workers", [0, 2])
def test_eval_of_a_host_without_images_is_padding(make_photos, workers):
  options = make_photos(workers=workers)
  train = load(options).train
  few = Subset(train.source, train.indices[:19])
  first, last = eval_batches(few, options, batch=16, share=(3, 4))
  assert first["mask"].all()
  assert {name: (v.shape, v.dtype) for name, v in last.items()} == {
    "image": ((4, 24, 24, 3), np.float32),
    "label": ((4,), np.int32),
    "mask": ((4,), np.float32),
  }
  assert not any(values.any() for values in last.values())


def test_hosts_must_divide_the_batch(make_photos):
  options = make_photos()
  train = load(options).train
  match = (
    "batch=20: expected a multiple of the 3 hosts that share it; set it to 21,"
    " or use another number of hosts"
  )
  with pytest.raises(ValueError, match=match):
    train_batches(train, options, batch=20, seed=0, share=(0, 3))
  with pytest.raises(ValueError, match=match):
    eval_batches(train, options, batch=20, share=(0, 3))


@pytest.mark.parametrize("share", [(2, 2), (-1, 2), (0, 0), (0.0, 2), (0, 2.0)])
def test_share_must_be_one_of_the_hosts(make_photos, share):
  options = make_photos()
  train = load(options).train
  match = r"share=\(.*\): expected \(index, count\) with index in 0\.\.count-1"
  with pytest.raises(ValueError, match=match):
    train_batches(train, options, batch=20, seed=0, share=share)
  with pytest.raises(ValueError, match=match):
    eval_batches(train, options, batch=20, share=share)
