"""Data that vanish or are damaged while a run reads them."""

import errno
import os
import re

import numpy as np
import pytest
from PIL import Image

from proxyless_jax.data import eval_batches, load, train_batches
from proxyless_jax.data.folders import folder_sources

REMEDY = "restore it in data.path, and the same command continues"


@pytest.fixture
def root(tmp_path):
  """Two classes of 60 images; image i is i all over."""
  for i in range(120):
    path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), i).save(path)
  return tmp_path / "photos"


def until_it_ends(batches):
  """The batches before an error, and that error."""
  seen = []
  with pytest.raises(ValueError) as error:
    # Of batches that were prepared ahead, there are some dozens.
    for batch, _ in zip(batches, range(400)):
      seen.append(batch)
  message = str(error.value)
  assert "\n" not in message
  assert message.endswith(REMEDY)
  return seen, message


@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder_that_vanishes_and_is_back(root, make_options, workers):
  options = make_options(source="folder", path=str(root), workers=workers)
  train = load(options).train
  iterator = train_batches(train, options, batch=8, seed=0)
  unbroken = [next(iterator)]
  root.rename(root.parent / "away")
  more, message = until_it_ends(iterator)
  unbroken += more
  state = iterator.get_state()
  iterator.close()
  assert state["next_index"] == len(unbroken)
  assert re.match(
    rf"{root}/[ab]/\d+\.png: expected an image file, but it cannot be read"
    r" \(No such file or directory\); ",
    message,
  )
  with pytest.raises(ValueError, match=r"bring the folder back, and the same"):
    load(options)

  (root.parent / "away").rename(root)
  options = make_options(source="folder", path=str(root))
  alone = train_batches(load(options).train, options, batch=8, seed=0)
  for batch in unbroken:
    np.testing.assert_array_equal(next(alone)["image"], batch["image"])
  again = train_batches(load(options).train, options, batch=8, seed=0)
  again.set_state(state)
  np.testing.assert_array_equal(next(again)["image"], next(alone)["image"])
  alone.close()
  again.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_damaged_later_ends_a_pass(root, make_options, workers):
  options = make_options(source="folder", path=str(root), workers=workers)
  test = load(options).test
  path = test.source.paths[test.indices[-1]]
  with open(path, "r+b") as file:
    file.truncate(50)  # After `load` has seen that all are whole.
  _, message = until_it_ends(eval_batches(test, options, batch=5))
  assert message.startswith(f"{path}: expected an image, but")


def test_an_unreadable_folder_is_named(root, monkeypatch):
  scandir = os.scandir

  def failing(path):
    if str(path).endswith("/b"):
      raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
    return scandir(path)

  monkeypatch.setattr(os, "scandir", failing)
  with pytest.raises(ValueError, match=r"Input/output error") as error:
    folder_sources(root, 1)
  message = str(error.value)
  assert message.startswith(f"{root}: expected a folder of images, but")
  assert f"{root}/b" in message
  assert message.endswith(REMEDY)
