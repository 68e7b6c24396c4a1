"""Steps on many devices: each has its share of the batch, all hold the state.

The part of a step that sees the batch runs on all devices of a mesh at once,
under `jax.shard_map`; what it gives is added up over them, so that all hold
the same afterwards. Of the gradients of banks they exchange the drawn rows,
and of each row what its candidate has: so devices send what they would for
the plain network of the drawn path.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from proxyless_jax.nn import bank
from proxyless_jax.nn.parallel import add_up, shares
from proxyless_jax.space import Network


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


def lengths_of(network: Network) -> dict[str, tuple[int, ...]]:
  """Parameters of each candidate, by the names of banks with several."""
  return {
    own.name: tuple(
      bank.layout(op, own.place, "params").length for op in own.place.ops
    )
    for own in bank.banks(network)
    if len(own.place.ops) > 1
  }


def add_up_gradients(
  grads, index: Mapping[str, jax.Array], lengths: Mapping[str, tuple[int, ...]]
):
  """The sum of all devices' gradients.

  Args:
    grads: by names; those of banks are rows f[n, 1, length].
    index: i32[n] by the names of banks, the drawn candidates; the same on all
      devices.
    lengths: of each candidate's parameters, by the names of banks.
  """
  if shares() == 1:
    return grads
  rest = add_up({k: g for k, g in grads.items() if k not in lengths})
  rows = {k: _add_up_rows(grads[k], index[k], lengths[k]) for k in lengths}
  return {**rest, **rows}


def _add_up_rows(rows, index, lengths: tuple[int, ...]):
  branches = [functools.partial(_add_up_first, length) for length in lengths]

  def edge(_, own):
    row, candidate = own
    return None, lax.switch(candidate, branches, row)

  return lax.scan(edge, None, (rows, index))[1]


def _add_up_first(length: int, row):
  """Of f[1, longest], where zeros follow the candidate's own."""
  if not length:
    return row
  own, zeros = jnp.split(row, [length], axis=-1)
  return jnp.concatenate([add_up(own), zeros], axis=-1)
