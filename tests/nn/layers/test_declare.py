"""Initialisers draw, or declare what they would draw from."""

import flax.linen as nn
import jax
import numpy as np
from numpy.testing import assert_allclose

from proxyless_jax.nn.layers.declare import Declared, declarations, he_fan_out


def test_initialisers_declare_only_where_asked():
  key, shape = jax.random.key(0), (3, 3, 1, 8)
  plain = he_fan_out(key, shape)
  assert isinstance(plain, jax.Array)
  with declarations():
    box = he_fan_out(key, shape)
  assert isinstance(box, Declared)
  assert_allclose(box.deviation, np.sqrt(2 / 72))
  assert nn.meta.unbox(box).shape == plain.shape
