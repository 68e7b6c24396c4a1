"""A state as whole arrays on the host, and back on its devices.

On devices a leaf may be spread over a mesh, and over hosts none of which has
all of it. On the host it is one NumPy array, whatever it was on the devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils


def named_leaves(state: Any) -> dict[str, Any]:
  """The leaves of a pytree by their paths.

  Raises:
    TypeError: a leaf that is not an array.
  """
  leaves = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    name = jax.tree_util.keystr(path)
    if not hasattr(leaf, "dtype"):
      raise TypeError(f"state{name} = {leaf!r}: expected a JAX or NumPy array")
    leaves[name] = leaf
  return leaves


def is_key(leaf: Any) -> bool:
  """Whether a leaf holds PRNG keys."""
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def to_host(leaves: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Arrays by name, keys as integers; leaves without elements are left out.

  All hosts have to call it: it may exchange data.
  """
  data = {
    name: _within_reach(jax.random.key_data(leaf) if is_key(leaf) else leaf)
    for name, leaf in leaves.items()
    # Orbax refuses arrays without elements.
    if leaf.size
  }
  # On a CPU these are views of buffers that the caller donates next. Orbax
  # copies NumPy arrays before its `save` returns; JAX arrays it may not copy.
  return jax.device_get(data)


def _within_reach(leaf):
  """The whole array, a part of which may be on other hosts only."""
  if getattr(leaf, "is_fully_addressable", True):
    return leaf
  if leaf.is_fully_replicated:
    return leaf.addressable_data(0)
  # Gathered one by one: together the leaves may not fit a device.
  return multihost_utils.process_allgather(leaf, tiled=True)


def from_host(
  arrays: Mapping[str, np.ndarray],
  state_like: Any,
  key_impl: Mapping[str, str],
) -> Any:
  """Puts the arrays of `to_host` where the leaves of `state_like` are.

  Args:
    arrays: arrays by the names of the leaves.
    state_like: pytree of arrays, or of `jax.ShapeDtypeStruct`, whose structure
      and shardings the result has.
    key_impl: implementations of the PRNG keys, by the names of the leaves.
  """

  def place(path, leaf):
    name = jax.tree_util.keystr(path)
    sharding = getattr(leaf, "sharding", None)
    if not getattr(leaf, "committed", True):
      sharding = None  # Otherwise it could not meet arrays on several devices.
    if name not in arrays:  # It has no elements.
      return _put(np.zeros(leaf.shape, leaf.dtype), sharding)
    array = _put(arrays[name], sharding)
    if name in key_impl:
      array = jax.random.wrap_key_data(array, impl=key_impl[name])
    return array

  return jax.tree_util.tree_map_with_path(place, state_like)


def _put(array: np.ndarray, sharding) -> jax.Array:
  if getattr(sharding, "is_fully_addressable", True):
    return jax.device_put(array, sharding)
  # `device_put` would first compare the arrays of all hosts.
  return jax.make_array_from_callback(
    array.shape, sharding, lambda index: array[index]
  )
