"""Batches: Grain over the positions of a subset, numpy over whole batches.

Grain's elements are whole batches of positions, shuffled here: its own time per
element is several times that of preparing a small image. The stream,
augmentation included, is a function of the seed and the number of batches
before, so that its state is that number; neither threads nor worker processes
change it. Hosts may share each batch: each then reads its own rows, and the
rows of all together are the batch that one host alone would read.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import os
import sys
from collections.abc import Iterable

import grain
import numpy as np
from absl import flags

from proxyless_jax.data.dataset import Subset
from proxyless_jax.data.options import SEED_LIMIT, DataOptions, is_integer
from proxyless_jax.data.transforms import Augment, Centre, Finish

# Each thread holds one prepared batch: enough to hide reading and decoding,
# and a bound on memory (eight batches of 256 ImageNet images are 1.2 GB).
MAX_THREADS = 8


def train_batches(
  subset: Subset,
  options: DataOptions,
  *,
  batch: int,
  seed: int,
  augmented: bool = True,
  share: tuple[int, int] = (0, 1),
) -> grain.DatasetIterator:
  """An endless stream of batches, shuffled again in each epoch.

  Batches run across epochs: no image is skipped or seen twice in an epoch.

  Args:
    subset: images of a dataset.
    options: the options that the dataset was loaded with.
    batch: images per batch, of all hosts together.
    seed: seed of order and augmentation, in 0..2**32-1.
    augmented: False prepares images as `eval_batches` does.
    share: (index, count) of this host among those that share each batch: it
      reads the index-th of count equal parts of the rows.

  Returns:
    A Grain iterator of {"image": f32[b, h, w, c], "label": i32[b], "mask":
    f32[b] of ones}, where b is batch // count. `get_state` and `set_state` save
    and restore its position, for any `workers` and `share`: it is the same on
    all hosts. `close` ends its threads and processes.

  Raises:
    ValueError: `batch`, `seed` or `share` is out of range, or the subset is
      empty. While it runs: an image cannot be read.
  """
  rows = _rows(batch, share)
  _check_subset(subset)
  _check_seed(seed)
  positions = _ShuffledPositions(subset.indices, batch, rows, seed)
  batches = grain.MapDataset.source(positions).seed(seed)
  if augmented:
    batches = batches.random_map(Augment(subset.source, options, batch, rows))
  else:
    batches = batches.map(Centre(subset.source, options))
  finish = Finish(options, rows.stop - rows.start)
  return _Stream(batches, finish, options.workers, len(subset))


def eval_batches(
  subset: Subset,
  options: DataOptions,
  *,
  batch: int,
  share: tuple[int, int] = (0, 1),
) -> Iterable[dict[str, np.ndarray]]:
  """One pass over a subset, in order, without augmentation.

  Args:
    subset: images of a dataset.
    options: the options that the dataset was loaded with.
    batch: images per batch, of all hosts together; the last batch is padded
      with zeros to it.
    share: (index, count), as in `train_batches`. All hosts get the same number
      of batches; the last one may be only padding on some.

  Returns:
    An iterable of batches as in `train_batches`; `mask` is 0 for padding.
    Each `iter` of it starts again.

  Raises:
    ValueError: `batch` or `share` is out of range, or the subset is empty.
      While it runs: an image cannot be read.
  """
  rows = _rows(batch, share)
  _check_subset(subset)
  starts = range(0, len(subset), batch)
  batches = grain.MapDataset.source(
    [subset.indices[start : start + batch][rows] for start in starts]
  )
  batches = batches.map(Centre(subset.source, options))
  finish = Finish(options, rows.stop - rows.start)
  return _Pass(_prefetched(batches, finish, options.workers))


@dataclasses.dataclass(frozen=True, eq=False)
class _ShuffledPositions:
  """The endless, shuffled stream of a subset's indices, in batches.

  Attributes:
    indices: i64[n], positions of the subset in its source.
    batch: images per batch, of all hosts together.
    rows: the rows of a batch that this host reads.
    seed: seed of the order.
  """

  indices: np.ndarray
  batch: int
  rows: slice
  seed: int

  def __len__(self):
    return sys.maxsize

  def __getitem__(self, number):
    size, first = len(self.indices), number * self.batch
    start, stop = first + self.rows.start, first + self.rows.stop
    parts = []
    while start < stop:
      epoch, offset = divmod(start, size)
      count = min(stop - start, size - offset)
      order = _epoch_order(size, self.seed, epoch)
      parts.append(self.indices[order[offset : offset + count]])
      start += count
    return np.concatenate(parts)


# Two streams alternate in a search, and threads may be in two epochs of each.
@functools.lru_cache(maxsize=4)
def _epoch_order(size, seed, epoch):
  rng = np.random.Generator(np.random.PCG64([seed, epoch]))
  return rng.permutation(size)


@dataclasses.dataclass(frozen=True, eq=False)
class _Pass:
  """Iterates over a finite dataset, and ends its workers with the pass."""

  batches: grain.IterDataset

  def __iter__(self):
    iterator = iter(self.batches)
    try:
      yield from iterator
    finally:
      iterator.close()
      del iterator
      # Grain frees the last batches' shared memory with their arrays, which are
      # in reference cycles: Python would warn of leaks when it exits.
      gc.collect()


class _Stream(grain.DatasetIterator):
  """Iterates over batches; its state is the number of the next one.

  The state also has the number of images: with other images, the same number
  would be a position in another stream. Grain's own state has an entry per
  worker process, which a run that resumes with another number of workers could
  not use.
  """

  def __init__(self, batches, finish, workers, images):
    super().__init__()
    self._batches = batches
    self._finish = finish
    self._workers = workers
    self._images = images
    self._restart(0)

  def __next__(self):
    batch = next(self._iterator)
    self._next_index += 1
    return batch

  def get_state(self) -> dict[str, int]:
    return {"next_index": self._next_index, "images": self._images}

  def set_state(self, state: dict[str, int]) -> None:
    if state["images"] != self._images:
      raise ValueError(
        f"data: expected {state['images']} images in this split, as when the "
        f"run began, got {self._images}: bring them back, or use a new workdir"
      )
    self._iterator.close()
    self._restart(state["next_index"])

  def start_prefetch(self) -> None:
    self._iterator.start_prefetch()

  def close(self) -> None:
    self._iterator.close()

  def _restart(self, index):
    self._next_index = index
    rest = _prefetched(self._batches[index:], self._finish, self._workers)
    self._iterator = iter(rest)


def _prefetched(batches, finish, workers):
  """Prepares batches ahead in threads, or in worker processes."""
  if not workers:
    threads = min(MAX_THREADS, os.cpu_count() or 1)
    return batches.map(finish).to_iter_dataset(
      grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    )
  if not flags.FLAGS.is_parsed():
    # Grain passes absl's flags to its workers, and notebooks parse none.
    flags.FLAGS.mark_as_parsed()
  batches = batches.to_iter_dataset(
    grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
  )
  batches = batches.mp_prefetch(
    grain.MultiprocessingOptions(num_workers=workers)
  )
  return grain.experimental.ThreadPrefetchIterDataset(
    batches.map(finish), prefetch_buffer_size=1
  )


def _check_seed(seed):
  if not is_integer(seed) or not 0 <= seed < SEED_LIMIT:
    raise ValueError(
      f"seed={seed!r}: expected an integer in 0..2**32-1; pick another seed"
    )


def _rows(batch, share):
  """The rows of a batch that this host reads."""
  if not is_integer(batch) or batch < 1:
    raise ValueError(
      f"batch={batch!r}: expected an integer of 1 or more; set the batch size"
    )
  index, count = share
  if not (is_integer(index) and is_integer(count) and 0 <= index < count):
    raise ValueError(
      f"share={share!r}: expected (index, count) with index in 0..count-1; give"
      " the number of this host, from 0, and how many there are"
    )
  if batch % count:
    raise ValueError(
      f"batch={batch}: expected a multiple of the {count} hosts that share it;"
      f" set it to {-(-batch // count) * count}, or use another number of hosts"
    )
  size = batch // count
  return slice(index * size, (index + 1) * size)


def _check_subset(subset: Subset):
  if len(subset) == 0:
    raise ValueError(
      "subset: expected at least one image, got none; give it images"
    )
