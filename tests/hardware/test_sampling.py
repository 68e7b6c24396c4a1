import numpy as np
import pytest

from proxyless_jax.hardware.sampling import Patience, is_enough, summarise


def test_the_median_of_quotients():
  pairs = [(2.0, 1.0), (6.0, 3.0), (20.0, 10.0), (9.0, 1.0), (2.0, 1.0)]
  reading = summarise(pairs)
  assert reading.cost == pytest.approx(2.0)
  assert (reading.reference, reading.rounds) == (1.0, 5)


def test_the_error_is_that_of_a_median():
  rng = np.random.default_rng(0)
  own = np.exp(0.1 * rng.standard_normal((400, 50)))
  readings = [summarise([(a, 1.0) for a in row]) for row in own]
  spread = np.std([np.log(reading.cost) for reading in readings])
  errors = [reading.error for reading in readings]
  assert np.median(errors) == pytest.approx(spread, rel=0.15)


def test_enough():
  patience = Patience(0.01, 4, 8)
  rough = [(1.0, 1.0), (1.5, 1.0), (0.7, 1.0)] * 4
  assert not is_enough(summarise([(1.0, 1.0)] * 3), patience)
  assert is_enough(summarise([(1.0, 1.0)] * 4), patience)
  assert not is_enough(summarise(rough[:7]), patience)
  assert is_enough(summarise(rough[:8]), patience)


@pytest.mark.parametrize("fields", [(0.0, 1, 2), (0.1, 3, 2), (0.1, 0, 2)])
def test_invalid_patience(fields):
  with pytest.raises(ValueError, match="expected"):
    Patience(*fields)
