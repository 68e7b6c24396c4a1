"""CIFAR-10 in the memory of the device: batches without a pipeline.

The whole set is 184 MB as uint8. Steps that draw their batches from it run in
one compiled loop, without the host; crops of 4 pixels and flips are as in the
training of NAS-Bench-Macro.
"""

from __future__ import annotations

import io
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

# Of the training images, in [0, 1].
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
PADDING = 4


class Images(NamedTuple):
  """Images u8[n, 32, 32, 3] with their labels i32[n]."""

  image: jax.Array
  label: jax.Array


def load(path: str | os.PathLike, per_class: int | None = None):
  """The training images and the test images.

  Args:
    path: .npz of JPEGs: `jpeg` u8[bytes], `offsets` i64[n + 1], `labels` u8[n],
      `train`, the number of the first so many that are for training.
    per_class: training images of each class that are kept; None for all.
  """
  data = np.load(path)
  offsets, count = data["offsets"], int(data["train"])
  labels = data["labels"].astype(np.int32)
  kept = np.arange(count)
  if per_class is not None:
    by_class = [np.flatnonzero(labels[:count] == c) for c in range(10)]
    kept = np.sort(np.concatenate([rows[:per_class] for rows in by_class]))
  raw = data["jpeg"].tobytes()
  return tuple(
    Images(
      np.stack([_decode(raw[offsets[i] : offsets[i + 1]]) for i in rows]),
      labels[rows],
    )
    for rows in (kept, np.arange(count, len(labels)))
  )


def _decode(jpeg: bytes) -> np.ndarray:
  return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def split(images: Images, held_out: int, seed: int) -> tuple[Images, Images]:
  """Two parts, of which the second has `held_out` images, drawn at random."""
  order = np.random.default_rng(seed).permutation(len(images.label))
  parts = order[held_out:], order[:held_out]
  return tuple(Images(images.image[p], images.label[p]) for p in parts)


def batch_of(images: Images, rows: jax.Array, key=None) -> dict:
  """A batch for a step of the search.

  Args:
    images: images of a part.
    rows: i32[b], which ones.
    key: PRNG key of crops and flips; None for the images as they are.
  """
  image = images.image[rows]
  if key is not None:
    image = _augment(key, image)
  image = (image.astype(jnp.float32) / 255.0 - jnp.array(MEAN)) / jnp.array(STD)
  mask = jnp.ones(len(rows), jnp.float32)
  return {"image": image, "label": images.label[rows], "mask": mask}


def _augment(key, image):
  crop_key, flip_key = jax.random.split(key)
  count, size = image.shape[:2]
  at = jax.random.randint(crop_key, (count, 2), 0, 2 * PADDING + 1)
  flipped = jax.random.bernoulli(flip_key, 0.5, (count, 1, 1, 1))
  pad = (PADDING, PADDING)
  padded = jnp.pad(image, ((0, 0), pad, pad, (0, 0)))
  rows = at[:, :1] + jnp.arange(size)
  cols = at[:, 1:] + jnp.arange(size)
  image = jnp.take_along_axis(padded, rows[:, :, None, None], axis=1)
  image = jnp.take_along_axis(image, cols[:, None, :, None], axis=2)
  return jnp.where(flipped, image[:, :, ::-1], image)


def epoch_rows(key: jax.Array, count: int, batch: int, step) -> jax.Array:
  """The rows of a step's batch, each epoch in a new order: i32[batch].

  What is left at the end of an epoch is left out.

  Args:
    key: PRNG key, the same for all steps.
    count: images of the part.
    batch: images per step, at most `count`.
    step: i32[], from 0.
  """
  steps = count // batch
  order = jax.random.permutation(jax.random.fold_in(key, step // steps), count)
  return jax.lax.dynamic_slice(order, (step % steps * batch,), (batch,))
