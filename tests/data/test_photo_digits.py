"""Digits on photographs: the same everywhere, and split by digit."""

import numpy as np
import pytest

from proxyless_jax.data import load, photo_digits
from proxyless_jax.data.sources import ArraySource, mnist_source

COPIES, DIGITS = 2, 100


@pytest.fixture
def few(monkeypatch):
  """The source, of a few digits."""
  pytest.importorskip("sklearn")
  whole = mnist_source(1)
  rows = slice(None, None, len(whole) // DIGITS)
  digits = ArraySource(whole.images[rows], whole.labels[rows], whole.names)
  monkeypatch.setattr(photo_digits, "mnist_source", lambda channels: digits)
  monkeypatch.setattr(photo_digits, "COPIES", COPIES)
  photo_digits._images.cache_clear()
  yield photo_digits.photo_digits_source
  photo_digits._images.cache_clear()


def test_digits_on_photographs(few):
  grey, colour = few(1), few(3)
  assert grey.images.shape == (COPIES * DIGITS, 28, 28, 1)
  assert colour.images.shape == (COPIES * DIGITS, 28, 28, 3)
  assert colour.images.dtype == np.uint8
  np.testing.assert_array_equal(np.bincount(grey.labels), [COPIES * 10] * 10)
  assert (grey.images[0::2] != grey.images[1::2]).any(axis=(1, 2, 3)).all()
  # Digits are lighter than what is behind them.
  assert grey.images[:, 10:18, 10:18].mean() > grey.images[:, :, :4].mean()
  photo_digits._images.cache_clear()
  np.testing.assert_array_equal(few(3).images, colour.images)


def test_a_digit_is_in_one_part(few, make_options):
  dataset = load(make_options(source="photo_digits"))
  parts = dataset.weights, dataset.arch, dataset.test
  digits = [set(part.indices // COPIES) for part in parts]
  assert [len(found) for found in digits] == [40, 40, 20]
  assert [len(part) for part in parts] == [80, 80, 40]
  assert len(set.union(*digits)) == DIGITS
  assert dataset.test.source.digest.endswith(", 2 of each")
