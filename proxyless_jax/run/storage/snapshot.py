"""The arrays of a state on the host, whole, and back where they belong.

On the device a leaf may be spread over a mesh, and over hosts none of which has
all of it. On the host it is one NumPy array, whatever it was on the device.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils


def named_leaves(state) -> dict[str, object]:
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


def is_key(leaf) -> bool:
  """Whether a leaf holds PRNG keys."""
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def to_host(leaves: dict[str, object]) -> dict[str, np.ndarray]:
  """Arrays by name, keys as integers; leaves without elements are left out.

  On several hosts all have to call: it may exchange data.
  """
  data = {
    name: _within_reach(jax.random.key_data(leaf) if is_key(leaf) else leaf)
    for name, leaf in leaves.items()
    # Orbax refuses arrays without elements.
    if leaf.size
  }
  # On a CPU these are views of buffers that the caller donates next. Orbax
  # copies NumPy arrays before its `save` returns, of JAX arrays it may not.
  return jax.device_get(data)


def _within_reach(leaf):
  """All of an array, where a part of it may be on other hosts only."""
  if getattr(leaf, "is_fully_addressable", True):
    return leaf
  if leaf.is_fully_replicated:
    return leaf.addressable_data(0)
  # One by one: together they may not fit a device.
  return multihost_utils.process_allgather(leaf, tiled=True)


def from_host(arrays: dict[str, np.ndarray], state_like, key_impl):
  """The arrays of `to_host` as the pytree `state_like`, where its leaves are.

  Args:
    arrays: by name.
    state_like: pytree of arrays, or of `jax.ShapeDtypeStruct`.
    key_impl: of the leaves that are keys, their kinds by name.
  """

  def place(path, leaf):
    name = jax.tree_util.keystr(path)
    sharding = getattr(leaf, "sharding", None)
    if not getattr(leaf, "committed", True):
      sharding = None  # Else it would not go with arrays on several devices.
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
  # `device_put` would compare the arrays of all hosts first.
  return jax.make_array_from_callback(
    array.shape, sharding, lambda index: array[index]
  )
