"""Devices of a run: one mesh over all of them, and where arrays lie on it.

Batches are split over the mesh; the state is replicated, or split too where the
memory of one device is too small for it. The numbers are the same either way,
up to the order of sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from proxyless_jax.parallel.collectives import DATA


def check_devices() -> None:
  """Starts JAX's devices.

  Raises:
    ValueError: JAX_PLATFORMS names what is not there.
  """
  try:
    jax.devices()
  except (AssertionError, RuntimeError) as error:
    # JAX makes the attributes of its configuration when it is imported.
    asked = jax.config.jax_platforms  # type: ignore[attr-defined]
    said = str(error).partition("\n")[0]
    if not asked or (said and "initialize backend" not in said):
      raise
    raise ValueError(
      f"JAX_PLATFORMS = {asked!r}: expected devices that JAX finds here, found "
      f"none{said and f' ({said})'}: install the drivers and JAX's package for "
      "them, such as jax[cuda13], or unset JAX_PLATFORMS to take what there is"
    ) from error


def make_mesh() -> Mesh | None:
  """All devices of all hosts, to share batches; None where there is one."""
  if jax.device_count() == 1:
    return None
  return Mesh(jax.devices(), (DATA,))


def host_share() -> tuple[int, int]:
  """This host's share of a batch: its number, and how many hosts there are."""
  return jax.process_index(), jax.process_count()


def round_up(batch: int) -> int:
  """The next batch that all devices can share."""
  return -(-batch // jax.device_count()) * jax.device_count()


def shared_by(parts: int) -> int:
  """The number that batches are multiples of: devices times parts."""
  return jax.device_count() * parts


def check_shared(field: str, batch: int, parts: int) -> None:
  """Raises a ValueError where the devices cannot share a batch evenly.

  Args:
    field: dotted name, for the message.
    batch: number of images in a step.
    parts: number of parts of it, each of which the devices share.
  """
  devices, multiple = jax.device_count(), shared_by(parts)
  if batch % multiple:
    raise ValueError(
      f"{field} = {batch}: expected a multiple of {multiple}, as "
      f"{devices} devices share each of its {parts} parts: change it, or "
      "hide devices (CUDA_VISIBLE_DEVICES)"
    )


def to_devices(batch: dict, mesh: Mesh | None) -> dict:
  """A batch on the mesh, the hosts' shares of it in the order of the hosts.

  Args:
    batch: this host's share, arrays f[b / hosts, ...].
    mesh: mesh of all devices; None for one device.

  Returns:
    Global arrays f[b, ...], split along their first axis.
  """
  if mesh is None:
    return batch
  sharding = NamedSharding(mesh, P(mesh.axis_names))
  return jax.tree.map(
    lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), batch
  )


def place(tree: Any, mesh: Mesh | None, sharded: bool = False) -> Any:
  """A pytree of arrays on the mesh.

  Args:
    tree: arrays and PRNG keys: all on the mesh already, or the whole of each
      on every host.
    mesh: mesh of all devices; None for one device.
    sharded: whether the arrays are split over the devices, instead of
      replicated.
  """
  if mesh is None:
    return tree
  wanted = shardings(tree, mesh, sharded)
  if all(_is_on(leaf, mesh) for leaf in jax.tree.leaves(tree)):
    return jax.jit(lambda tree: tree, out_shardings=wanted)(tree)

  def put(leaf: jax.Array, sharding: NamedSharding) -> jax.Array:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      data = put(jax.random.key_data(leaf), sharding)
      return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    array = np.asarray(leaf)
    return jax.make_array_from_callback(
      array.shape, sharding, lambda index: array[index]
    )

  return jax.tree.map(put, tree, wanted)


def _is_on(leaf: Any, mesh: Mesh) -> bool:
  sharding = getattr(leaf, "sharding", None)
  return sharding is not None and sharding.device_set == set(mesh.devices.flat)


def shardings(tree: Any, mesh: Mesh, sharded: bool) -> Any:
  """The sharding of each leaf of a pytree of arrays.

  Sharded leaves are split along the longest axis that the devices divide; those
  without such an axis are replicated.
  """

  def of_leaf(leaf: jax.Array) -> NamedSharding:
    fitting = [
      (length, axis)
      for axis, length in enumerate(leaf.shape)
      if length and length % mesh.size == 0
    ]
    if not sharded or not fitting:
      return NamedSharding(mesh, P())
    _, axis = max(fitting)
    return NamedSharding(mesh, P(*[None] * axis, *mesh.axis_names))

  return jax.tree.map(of_leaf, tree)


def jit_step(
  step: Callable, mesh: Mesh | None, sharded: bool = False
) -> Callable:
  """Compiles (state, batch) -> (state, metrics), donating the state.

  Args:
    step: a step whose state is on the mesh as `place` puts it, and stays so.
    mesh: mesh of all devices; None for one device.
    sharded: as for `place`.
  """

  def placed(state: Any, *args: Any) -> tuple:
    state, *others = step(state, *args)
    if mesh is not None:
      state = jax.lax.with_sharding_constraint(
        state, shardings(state, mesh, sharded)
      )
    return state, *others

  return jax.jit(placed, donate_argnums=0)
