"""Devices of a run: one mesh over all of them, and where arrays lie on it.

Batches are spread over the mesh, the state is held by all devices, or spread
over them too where the memory of one is too small for it. The numbers are the
same either way, up to the order of sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def make_mesh(axis: str) -> Mesh | None:
  """All devices of all hosts in a row; None where there is one.

  Args:
    axis: its name: `nn.parallel.DATA` where devices share a batch.
  """
  if jax.device_count() == 1:
    return None
  return Mesh(jax.devices(), (axis,))


def to_devices(batch: dict, mesh: Mesh | None) -> dict:
  """A batch on the mesh, the hosts' shares of it in the order of the hosts.

  Args:
    batch: this host's share, arrays f[b / hosts, ...].
    mesh: of all devices.

  Returns:
    Global arrays f[b, ...], spread over the mesh.
  """
  if mesh is None:
    return batch
  sharding = NamedSharding(mesh, P(mesh.axis_names))
  return jax.tree.map(
    lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), batch
  )


def place(tree, mesh: Mesh | None, spread: bool = False):
  """A pytree of arrays, the same on every host, on the mesh.

  Args:
    tree: of arrays and PRNG keys.
    mesh: of all devices.
    spread: over them, instead of held by all.
  """
  if mesh is None:
    return tree

  def put(leaf, sharding):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      data = put(jax.random.key_data(leaf), sharding)
      return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    array = np.asarray(leaf)
    return jax.make_array_from_callback(
      array.shape, sharding, lambda index: array[index]
    )

  return jax.tree.map(put, tree, layout(tree, mesh, spread))


def layout(tree, mesh: Mesh, spread: bool):
  """The sharding of each leaf of a pytree of arrays.

  Spread leaves are cut along the longest axis that the devices divide; those
  without such an axis are held by all.
  """

  def of_leaf(leaf):
    fitting = [
      (length, axis)
      for axis, length in enumerate(leaf.shape)
      if length and length % mesh.size == 0
    ]
    if not spread or not fitting:
      return NamedSharding(mesh, P())
    _, axis = max(fitting)
    return NamedSharding(mesh, P(*[None] * axis, *mesh.axis_names))

  return jax.tree.map(of_leaf, tree)


def jit_step(step: Callable, mesh: Mesh | None, spread: bool = False):
  """Compiles (state, batch) -> (state, metrics), donating the state.

  Args:
    step: whose state lies on the mesh as `place` puts it, and stays so.
    mesh: of all devices.
    spread: see `place`.
  """

  def placed(state: Any, *args):
    state, *others = step(state, *args)
    if mesh is not None:
      state = jax.lax.with_sharding_constraint(
        state, layout(state, mesh, spread)
      )
    return state, *others

  return jax.jit(placed, donate_argnums=0)
