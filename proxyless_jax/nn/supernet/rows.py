"""The drawn rows of banks: which they are, picked out, and put back.

A bank f[n, k, ...] holds the k candidates of n edges. A draw takes one row of
each edge; what works on those rows alone costs as much as the drawn network.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from proxyless_jax.nn.supernet.bank import banks
from proxyless_jax.space import Network


def drawn_rows(network: Network, index: jax.Array) -> dict[str, jax.Array]:
  """The rows that a draw takes from each bank.

  Args:
    network: the search space.
    index: i32[e], the drawn candidate of each edge.

  Returns:
    i32[n] by the names of the banks that have several candidates. Parameters
    under all other names are part of every path.
  """
  positions = {edge.name: i for i, edge in enumerate(network.edges)}
  drawn = {}
  for bank in banks(network):
    if len(bank.form.ops) > 1:
      edges = np.array([positions[edge.name] for edge in bank.edges])
      drawn[bank.name] = index[edges]
  return drawn


def get_path(params: dict, drawn: dict[str, jax.Array]) -> dict:
  """`params` with the drawn rows f[n, 1, ...] in the place of banks.

  A module takes them instead of the banks, and what it gives a gradient to is
  then as small as the drawn path.

  Args:
    params: parameters by names; under those of `drawn` arrays f[n, k, ...].
    drawn: i32[n] by the names of banks, see `drawn_rows`.
  """
  return {
    name: get_rows(drawn[name], tree) if name in drawn else tree
    for name, tree in params.items()
  }


def get_rows(index: jax.Array, bank: jax.Array) -> jax.Array:
  """The drawn rows f[n, 1, ...] of a bank f[n, k, ...].

  Args:
    index: i32[n], the drawn row of each edge.
    bank: f[n, k, ...]; or f[n, 1, ...], the drawn rows already.
  """
  if bank.shape[1] == 1:
    return bank
  index = index.reshape(-1, 1, *(1,) * (bank.ndim - 2))
  return jnp.take_along_axis(bank, index, axis=1)


def put_rows(index: jax.Array, rows: jax.Array, bank: jax.Array) -> jax.Array:
  """The bank with its drawn rows replaced, in place where it was donated.

  For banks of parameters and of optimizer state, of which a step should write
  the drawn rows alone.

  Args:
    index: i32[n], the drawn row of each edge.
    rows: f[n, 1, ...], what to put there.
    bank: f[n, k, ...].
  """
  # Indices of one type, whatever JAX_ENABLE_X64 makes of Python's integers.
  zero, last = jnp.int32(0), jnp.int32(len(rows) - 1)
  rest = (zero,) * (bank.ndim - 2)

  # One row after the other: a bank may hold hundreds of edges, and a program
  # line for each would take long to compile.
  def put(edge: jax.Array, bank: jax.Array) -> jax.Array:
    edge = jnp.minimum(edge, last)
    row = lax.dynamic_index_in_dim(rows, edge)
    return lax.dynamic_update_slice(bank, row, (edge, index[edge], *rest))

  # A single row is put twice: of one turn XLA makes no loop, and computes the
  # row while it writes it, which it then cannot do in place: it copies banks.
  turns = jnp.int32(max(2, len(rows)))
  return lax.fori_loop(zero, turns, put, bank)


def select_rows(
  index: jax.Array, rows: jax.Array, bank: jax.Array
) -> jax.Array:
  """As `put_rows`, by one elementwise operation that writes all of the bank.

  Faster than a loop for small banks f[n, k, length], such as those of batch
  norm's statistics, and for a bank of zeros, which is then never stored. Where
  the bank is the drawn rows already, it becomes the new ones.
  """
  if bank.shape[1] == 1:
    return rows
  drawn = jnp.arange(bank.shape[1]) == index[:, None]
  return jnp.where(drawn[:, :, None], rows, bank)
