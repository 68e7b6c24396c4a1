import pytest

from tests.spaces import small_space


@pytest.fixture(scope="module")
def space():
  """Three searched edges in two banks."""
  return small_space(
    first_width=8,
    widths=(8, 16),
    depths=(2, 1),
    strides=(1, 2),
    candidates=("mbconv1_k3", "mbconv2_k5", "zero"),
  )
