"""The memory of the maps that a supernet saves for its backward pass."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from proxyless_jax.nn.networks.build import build
from proxyless_jax.nn.ops.base import MakeOptions
from proxyless_jax.nn.supernet import bank
from proxyless_jax.nn.supernet.kernel_sharing import kernel_groups
from proxyless_jax.nn.supernet.map_slots import slot_shapes
from proxyless_jax.space import Network


def saved_bytes(
  space: Network, batch: int, dtype: jnp.dtype = jnp.float32
) -> int:
  """Bytes of the maps that `build(space, recompute=False)` saves.

  Found by tracing: nothing is compiled or run.

  Args:
    space: a search space.
    batch: number of images that a device has in memory at a time.
    dtype: type of activations.
  """
  options = build(space, dtype=dtype).options
  return sum(
    len(own.edges) * _of_edge(own, options, batch, dtype)
    for own in bank.banks(space)
    if len(own.form.ops) > 1
  )


def _of_edge(
  own: bank.Bank, options: MakeOptions, batch: int, dtype: jnp.dtype
) -> int:
  groups = kernel_groups(own.form.ops, own.form, options, True, False)
  float32, x = jnp.float32, (batch, *own.form.shape_in)
  arguments = (
    jax.ShapeDtypeStruct((), jnp.int32),
    jax.ShapeDtypeStruct((own.length("params"),), float32),
    jax.ShapeDtypeStruct((own.length("batch_stats"),), float32),
    jax.ShapeDtypeStruct(x, dtype),
  )
  shapes = [jax.eval_shape(group.run, *arguments)[-1] for group in groups]
  return sum(
    math.prod(shape) * jnp.dtype(kind).itemsize
    for (*_, kind), shape in slot_shapes(shapes).items()
  )
