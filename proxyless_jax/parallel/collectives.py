"""One step on many devices: each has its share of a batch, all hold the state.

`over_devices` traces a function once, for one device's share of the batch,
under `jax.shard_map`. The mesh's axis says what the devices have in common:

    DATA  one path, and the batch: a sum over examples is a `psum`, and random
          numbers of examples are those that one device would draw for the
          whole batch. Layers and losses use these functions, so what they
          compute does not depend on the number of devices.
    PATH  the parameters alone: each device runs a path of its own, and layers
          exchange nothing. What is learned is averaged by the step.

Outside `shard_map`, and over PATH, the functions of DATA do nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

DATA, PATH = "data", "path"


def over_devices(
  function: Callable[[Any, Any], Any], mesh: Mesh | None, axis: str = DATA
) -> Callable[[Any, Any], Any]:
  """Runs a function of a batch on each device's share of it.

  Args:
    function: (replicated, batch) -> result; `replicated` is the same on all
      devices, and so is the result.
    mesh: devices, along one axis of any name; None for one device, where
      nothing changes.
    axis: name of that axis inside the function, `DATA` or `PATH`.

  Returns:
    The function of global arrays: batch arrays f[b, ...] are split over the
    mesh in order, everything else is replicated.
  """
  if mesh is None:
    return function
  return jax.shard_map(
    function,
    mesh=Mesh(mesh.devices, (axis,)),
    in_specs=(P(), P(axis)),
    out_specs=P(),
    # What is the same everywhere follows from sums that it cannot see through.
    check_vma=False,
  )


def num_shards() -> int:
  """The number of devices that share the batch in what is being traced."""
  mesh = jax.sharding.get_abstract_mesh()
  return mesh.shape[DATA] if DATA in mesh.manual_axes else 1


def psum(tree: Any) -> Any:
  """The sum over the shares of a batch, of a pytree; not differentiable."""
  return lax.psum(tree, DATA) if num_shards() > 1 else tree


def all_gather(x: jax.Array) -> jax.Array:
  """The arrays f[b, ...] of all shares of a batch as one, in their order."""
  return lax.all_gather(x, DATA, tiled=True) if num_shards() > 1 else x


@jax.custom_vjp
def psum_forward(x: jax.Array) -> jax.Array:
  """`psum` of an array, whose cotangent goes back to each share unchanged.

  For a loss: every device holds the same one, so its cotangent must reach each
  share once. Gradients in replicated parameters are then each device's own
  part, and want a `psum`.
  """
  return psum(x)


psum_forward.defvjp(lambda x: (psum_forward(x), None), lambda _, dy: (dy,))


@jax.custom_vjp
def psum_backward(x: jax.Array) -> jax.Array:
  """`x`, an array the same on all devices; its cotangent is their `psum`."""
  return x


psum_backward.defvjp(lambda x: (x, None), lambda _, dy: (psum(dy),))


def per_example(draw: Callable[[int], jax.Array], batch: int) -> jax.Array:
  """Random numbers for this device's share of the examples.

  Args:
    draw: from the number of examples n of the whole batch to f[n, ...].
    batch: number of examples on this device.

  Returns:
    f[batch, ...]. XLA draws no others, where `draw` is one of `jax.random`.
  """
  devices = num_shards()
  values = draw(batch * devices)
  if devices == 1:
    return values
  start = lax.axis_index(DATA) * batch
  return lax.dynamic_slice_in_dim(values, start, batch)
