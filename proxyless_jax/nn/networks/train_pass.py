"""A forward pass in training, and gradients of devices that share a batch.

Of the gradients of banks devices exchange the drawn rows, and of each row what
its candidate has. Batch norms are left out: their gradients are sums over the
devices from the start. So devices send what they would for the plain network of
the drawn path; where edges of several widths share a bank, what the widest of
them would.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import empty_node, flatten_dict, unflatten_dict
from jax import lax

from proxyless_jax.nn.layers.batch_norm import TOLD, agreed_statistics
from proxyless_jax.nn.ops.shapes import norms_at
from proxyless_jax.nn.supernet import bank
from proxyless_jax.parallel.collectives import num_shards, psum
from proxyless_jax.space import Network


def forward(
  module: nn.Module,
  variables: Mapping,
  images: jax.Array,
  key: jax.Array,
  **path,
) -> tuple[jax.Array, dict]:
  """A forward pass in training.

  Args:
    module: a module of `build`.
    variables: {'params', 'batch_stats'} of it.
    images: f[b, h, w, c]; or a device's share of them.
    key: PRNG key for dropout.
    path: the module's `gates` or `drop_rate`.

  Returns:
    Logits f[b, classes], and the new batch-norm statistics, the same on all
    devices that share a batch.
  """
  logits, told = module.apply(
    variables, images, train=True, mutable=TOLD, rngs={"dropout": key}, **path
  )
  return logits, agreed_statistics(told)


def psum_gradients(
  grads, network: Network, drawn: Mapping[str, jax.Array] | None = None
):
  """The sum of all devices' gradients, where it is not the sum already.

  Args:
    grads: gradients of the parameters of the network's module; of banks, those
      of the drawn rows f[n, 1, length].
    network: the description of the module.
    drawn: i32[n] by the names of banks with several candidates, see
      `rows.drawn_rows`, the same on all devices; None for an architecture,
      which has no such banks.
  """
  if num_shards() == 1:
    return grads
  own = bank.banks(network)
  rows = {b.name: _psum_rows(b, grads[b.name], drawn or {}) for b in own}
  norms = norms_outside_banks(network)
  named = {k: g for k, g in grads.items() if k not in rows}
  named = flatten_dict(named, keep_empty_nodes=True)
  # Together, so that they can travel together.
  sums = psum(
    {
      path: leaf
      for path, leaf in named.items()
      if leaf is not empty_node and path[:-1] not in norms
    }
  )
  return {**unflatten_dict({**named, **sums}), **rows}


@functools.lru_cache(maxsize=64)
def norms_outside_banks(network: Network) -> frozenset[tuple[str, ...]]:
  """The paths of batch norms among the parameters of a network's module."""
  return frozenset(
    (edge.name, edge.op.name, *path)
    for edge in network.layers
    if len(edge.ops) == 1
    for path in norms_at(edge.op, bank.nameless(edge))
  )


def _psum_rows(own: bank.Bank, rows, drawn: Mapping[str, jax.Array]):
  parts = [bank.own_parts(op, own.place) for op in own.place.ops]
  branches = [functools.partial(_psum_parts, of_op) for of_op in parts]
  if len(branches) == 1:
    return branches[0](rows)

  def edge(_, of_edge):
    candidate, row = of_edge
    return None, lax.switch(candidate, branches, row)

  return lax.scan(edge, None, (drawn[own.name], rows))[1]


def _psum_parts(parts: tuple[tuple[int, int], ...], row):
  """Of f[..., length], from the starts to the ends; all else stays."""
  if not parts:
    return row
  sums = psum(jnp.concatenate([row[..., a:b] for a, b in parts], axis=-1))
  pieces, taken, end = [], 0, 0
  for start, stop in parts:
    pieces.append(row[..., end:start])
    pieces.append(sums[..., taken : taken + stop - start])
    taken, end = taken + stop - start, stop
  return jnp.concatenate([*pieces, row[..., end:]], axis=-1)
