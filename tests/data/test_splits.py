import numpy as np
import pytest

from proxyless_jax.data.splits import stratified_split


@pytest.mark.parametrize("fraction", [0.1, 0.2, 1 / 3, 0.5, 0.99])
def test_disjoint_covering_and_proportional(fraction):
  labels = np.random.default_rng(0).choice(
    5, 503, p=[0.5, 0.3, 0.1, 0.06, 0.04]
  )
  kept, held = stratified_split(labels, fraction, 1)
  together = np.concatenate([kept, held])
  np.testing.assert_array_equal(np.sort(together), np.arange(503))
  assert len(held) == round(fraction * 503)
  counts = np.bincount(labels, minlength=5)
  shares = np.bincount(labels[held], minlength=5)
  assert (np.abs(shares - fraction * counts) < 1).all()


def test_seed_decides():
  labels = np.arange(100) % 4
  first, again, other = (
    stratified_split(labels, 0.5, seed)[1] for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert (first != other).any()


def test_copies_stay_together():
  labels = np.repeat(np.arange(30) % 3, 4)
  kept, held = stratified_split(labels, 0.2, 1, copies=4)
  assert len(held) == 4 * 6 and not set(kept // 4) & set(held // 4)
  np.testing.assert_array_equal(np.bincount(labels[held]), [8, 8, 8])


def test_known_split_on_every_platform():
  _, held = stratified_split(np.arange(12) % 3, 0.5, 7)
  np.testing.assert_array_equal(held, [0, 2, 4, 7, 9, 11])


def test_ties_are_drawn_and_total_is_kept():
  labels = np.arange(10)
  held = [stratified_split(labels, 0.5, seed)[1] for seed in range(20)]
  assert {len(part) for part in held} == {5}
  assert len({tuple(part) for part in held}) > 10


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_empty_side_is_an_error_with_field_and_numbers(fraction):
  with pytest.raises(ValueError, match=f"arch_fraction={fraction}") as error:
    stratified_split(np.zeros(10, int), fraction, 0, field="arch_fraction")
  assert "of 10 images" in str(error.value)
