"""Steps on many devices: each has its share of the batch, all hold the state.

The part of a step that sees the batch runs on all devices of a mesh at once,
under `jax.shard_map`; what it gives is added up over them, so that all hold
the same afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P


def over_devices(function: Callable, mesh: Mesh | None) -> Callable:
  """Runs a function of a batch on each device's share of it.

  Args:
    function: (what all devices hold, batch) -> what all then hold alike.
    mesh: of one axis; None for one device, where nothing changes.

  Returns:
    The function of global arrays: batch arrays f[b, ...] are spread over the
    mesh in order, everything else is held by all devices.
  """
  if mesh is None:
    return function
  return jax.shard_map(
    function,
    mesh=mesh,
    in_specs=(P(), P(mesh.axis_names)),
    out_specs=P(),
    # What is the same everywhere follows from sums that it cannot see through.
    check_vma=False,
  )
