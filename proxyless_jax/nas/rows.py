"""An optimizer step on the drawn rows of banks, and on nothing else.

    rows = bank[i, index_i];  rows, s = T(rows, s, dL/d rows);  put them back

The same result as `transforms.drawn_only` gives with a valid, where the
parameters that belong together lie in banks f[n, k, length] of n edges and k
candidates: the work is the drawn path's instead of the supernet's. The same bit
for bit, but for the order of sums over all parameters, as in a global norm.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from proxyless_jax.nas import transforms


def get_drawn(params, drawn):
  """The tree with the drawn rows alone: banks f[n, 1, ...].

  A module takes them in place of the banks, and what it gives a gradient to is
  then as small as the drawn path.

  Args:
    params: a pytree whose banks have the shape f[n, k, ...].
    drawn: a tree prefix of `params`: i32[n] for a bank, the drawn row of each
      edge; True for sub-trees that every path uses.
  """
  return jax.tree.map(_get, jax.tree.broadcast(drawn, params), params)


def update_drawn(
  tx: optax.GradientTransformation, grads, opt_state, params, drawn
) -> tuple[Any, optax.OptState]:
  """Applies `tx` on the drawn rows.

  Args:
    tx: any optax transform that keeps its state as `transforms.drawn_only`
      asks.
    grads: of `get_drawn(params, drawn)`.
    opt_state: of `tx.init(params)`.
    params, drawn: as for `get_drawn`.

  Returns:
    The new parameters and optimizer state. Rows that were not drawn keep
    their bits.

  Example:
    >>> params = {"bank": jnp.zeros((1, 2, 3))}
    >>> tx = optax.sgd(1.0)
    >>> drawn, grads = {"bank": jnp.array([1])}, {"bank": jnp.ones((1, 1, 3))}
    >>> new, _ = update_drawn(tx, grads, tx.init(params), params, drawn)
    >>> print(new["bank"])
    [[[ 0.  0.  0.]
      [-1. -1. -1.]]]
  """
  index = jax.tree.broadcast(drawn, params)
  state_index = transforms.spread_over_state(tx, opt_state, index)
  rows = jax.tree.map(_get, index, params)
  state_rows = jax.tree.map(_get, state_index, opt_state)
  updates, new_state = tx.update(grads, state_rows, rows)
  rows = optax.apply_updates(rows, updates)
  params = jax.tree.map(_put, index, rows, params)
  return params, jax.tree.map(_put, state_index, new_state, opt_state)


def _get(index, bank):
  """The drawn rows f[n, 1, ...] of a bank f[n, k, ...]."""
  if index is True:
    return bank
  index = index.reshape(-1, 1, *(1,) * (bank.ndim - 2))
  return jnp.take_along_axis(bank, index, axis=1)


def _put(index, rows, bank):
  """The bank with its drawn rows replaced, in place where it was donated."""
  if index is True:
    return rows
  # Indices of one type, whatever JAX_ENABLE_X64 makes of Python's integers.
  zero, count = jnp.int32(0), jnp.int32(len(rows))
  rest = (zero,) * (bank.ndim - 2)

  # One row after the other: a bank may hold hundreds of edges, and a program
  # line for each would take long to compile.
  def put(edge, bank):
    row = lax.dynamic_index_in_dim(rows, edge)
    return lax.dynamic_update_slice(bank, row, (edge, index[edge], *rest))

  return lax.fori_loop(zero, count, put, bank)
