"""Initialisers that declare a mean and a deviation, from which others draw.

Compiling a random draw per kernel would take minutes for a supernet of a
thousand kernels. So `proxyless_jax.nn.init` asks the layers here for the
distributions, and draws from them on the host. Elsewhere, as in `module.init`,
these are plain initialisers; and modules of other packages, whose initialisers
declare nothing, run them.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

# Function (key, shape, dtype=float32) -> values, or their declaration.
Initialiser = Callable[..., Any]

_boxing = contextvars.ContextVar("boxing", default=False)


@contextlib.contextmanager
def declarations() -> Iterator[None]:
  """Inside it, the initialisers of this module give `Declared` boxes."""
  token = _boxing.set(True)
  try:
    yield
  finally:
    _boxing.reset(token)


@flax.struct.dataclass
class Declared(nn.meta.AxisMetadata):
  """A variable from N(mean, deviation); Linen unboxes it wherever it is used.

  Attributes:
    value: array of the variable's shape and type, whose entries mean nothing.
    mean, deviation: parameters of the distribution.
  """

  value: Any
  mean: float = flax.struct.field(pytree_node=False)
  deviation: float = flax.struct.field(pytree_node=False)

  def unbox(self) -> Any:
    """The value without its box."""
    return self.value

  def replace_boxed(self, val: Any) -> Declared:
    """The same distribution around another value."""
    return dataclasses.replace(self, value=val)

  def add_axis(self, index: int, params: dict) -> Declared:
    """The box itself: axes have no names here."""
    del index, params
    return self

  def remove_axis(self, index: int, params: dict) -> Declared:
    """The box itself: axes have no names here."""
    del index, params
    return self


def he_fan_out(
  key: jax.Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32
) -> Any:
  """He et al., ICCV 2015, over the fan-out k * k * features, as released.

  Args:
    key: PRNG key.
    shape: [k, k, features in, features out] of a kernel.
    dtype: type of the values.

  Returns:
    The values; inside `declarations()` a `Declared`, which Linen's `param`
    unboxes, so that layers see an array either way.
  """
  fan_out = math.prod(shape[:-2]) * shape[-1]
  return normal(math.sqrt(2.0 / fan_out))(key, shape, dtype)


def normal(deviation: float) -> Initialiser:
  """An initialiser that draws from N(0, deviation)."""

  def initialise(
    key: jax.Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32
  ) -> Any:
    if _boxing.get():
      # No random draw is even traced: a space has a thousand kernels.
      return Declared(jnp.zeros(shape, dtype), 0.0, deviation)
    return deviation * jax.random.normal(key, shape, dtype)

  return initialise


def constant(value: float) -> Initialiser:
  """An initialiser with the same number everywhere."""

  def initialise(
    key: jax.Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32
  ) -> Any:
    del key
    filled = jnp.full(shape, value, dtype)
    return Declared(filled, value, 0.0) if _boxing.get() else filled

  return initialise
