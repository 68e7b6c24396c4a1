"""Initial values that are declared: a mean and a deviation, drawn later.

Compiling a random draw per kernel would take minutes for a supernet of a
thousand kernels. Layers here box each variable with its distribution, and
`proxyless_jax.nn.init` draws them all on the host. Modules of others need
not: their own initialisers are run.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Declared(nn.meta.AxisMetadata):
  """A variable from N(mean, deviation); Linen unboxes it wherever it is used.

  Attributes:
    value: a draw, or its shape where only shapes are evaluated.
    mean, deviation: of the distribution.
  """

  value: Any
  mean: float = flax.struct.field(pytree_node=False)
  deviation: float = flax.struct.field(pytree_node=False)

  def unbox(self):
    return self.value

  def replace_boxed(self, val):
    return self.replace(value=val)

  def add_axis(self, index, params):
    del index, params
    return self

  def remove_axis(self, index, params):
    del index, params
    return self


def he_fan_out(key, shape, dtype=jnp.float32) -> Declared:
  """He et al., ICCV 2015, over the fan-out k * k * features, as released."""
  fan_out = math.prod(shape[:-2]) * shape[-1]
  return normal(math.sqrt(2.0 / fan_out))(key, shape, dtype)


def normal(deviation: float):
  """An initialiser: N(0, deviation)."""

  def initialise(key, shape, dtype=jnp.float32):
    value = deviation * jax.random.normal(key, shape, dtype)
    return Declared(value, 0.0, deviation)

  return initialise


def constant(value: float):
  """An initialiser: the same number everywhere."""

  def initialise(key, shape, dtype=jnp.float32):
    del key
    return Declared(jnp.full(shape, value, dtype), value, 0.0)

  return initialise
