"""Stratified splits: every class keeps its share on both sides.

Images that show the same thing, `copies` in a row, stay on one side.
"""

import numpy as np


def stratified_split(
  labels: np.ndarray,
  fraction: float,
  seed: int,
  *,
  field: str = "fraction",
  copies: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
  """Splits images in two, class by class.

  Of n images, round(fraction * n) are held out. A class of m images holds
  out floor(fraction * m), and the classes with the largest remainders one
  more, drawn by the seed where remainders tie.

  Args:
    labels: i32[n].
    fraction: fraction of the images to hold out, between 0 and 1.
    seed: seed of the draw; the same seed and labels give the same split on
      every platform.
    field: name of the option that gave the fraction, for errors.
    copies: images in a row that show the same thing, and stay together; they
      count as one image above. It divides n.

  Returns:
    Two sorted i64 arrays, disjoint, which together cover all positions in
    `labels`: those kept and those held out.

  Raises:
    ValueError: a side would be empty.
  """
  labels = np.asarray(labels)[::copies]
  total = round(fraction * len(labels))
  if not 0 < total < len(labels):
    raise ValueError(
      f"{field}={fraction}: expected at least one image on each side of the"
      f" split, but of {len(labels)} images {total} would be held out; change"
      f" {field}, or use more images"
    )
  rng = np.random.Generator(np.random.PCG64(seed))
  _, counts = np.unique(labels, return_counts=True)
  # Sorted once: to look for a thousand classes in turn would take seconds.
  order = np.argsort(labels, kind="stable")
  is_held = np.zeros(len(labels), bool)
  quotas = _quotas(counts, total, rng)
  for members, quota in zip(np.split(order, np.cumsum(counts)[:-1]), quotas):
    is_held[rng.permutation(members)[:quota]] = True
  is_held = np.repeat(is_held, copies)
  return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def _quotas(counts, total, rng):
  """Images to hold out of each class, i64[k], which sum to `total`."""
  shares = counts * (total / counts.sum())
  quotas = np.floor(shares).astype(np.int64)
  # Rounded, so that equal classes tie whatever the last bit of the product.
  remainders = np.round(shares - quotas, 9)
  order = np.lexsort((rng.random(len(counts)), -remainders))
  quotas[order[: total - quotas.sum()]] += 1
  return quotas
