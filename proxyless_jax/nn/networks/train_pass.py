"""A forward pass in training, and sums of gradients over devices.

Of banks, devices exchange the drawn rows; of a row, the entries that its
candidate has, without those of batch norms, whose gradients are sums over the
devices from the start. So a search sends as much as training the drawn path
would; where edges of several widths share a bank, as much as the widest.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import empty_node, flatten_dict, unflatten_dict
from jax import lax

from proxyless_jax.nn.layers.batch_norm import MUTATED, synced_batch_stats
from proxyless_jax.nn.ops.shapes import candidate_norm_paths
from proxyless_jax.nn.supernet import bank
from proxyless_jax.parallel.collectives import num_shards, psum
from proxyless_jax.space import Network


def forward(
  module: nn.Module,
  variables: Mapping[str, Any],
  images: jax.Array,
  key: jax.Array,
  **path: Any,
) -> tuple[jax.Array, dict]:
  """A forward pass in training.

  Args:
    module: a module of `build`.
    variables: {'params', 'batch_stats'} of it.
    images: f[b, h, w, c]; or a device's share of them.
    key: PRNG key for dropout.
    path: the module's `gates` or `drop_rate`.

  Returns:
    Logits f[b, classes], and the new batch-norm statistics, equal on all
    devices that share a batch.
  """
  logits, mutated = module.apply(
    variables,
    images,
    train=True,
    mutable=MUTATED,
    rngs={"dropout": key},
    **path,
  )
  return logits, synced_batch_stats(mutated)


def psum_gradients(
  grads: dict,
  network: Network,
  drawn: Mapping[str, jax.Array] | None = None,
) -> dict:
  """Sums gradients over the devices that share a batch.

  Args:
    grads: gradients of the parameters of the network's module; of each bank,
      the drawn rows f[n, 1, length].
    network: network of the module.
    drawn: drawn candidates i32[n] by the names of banks with several
      candidates (`rows.drawn_rows`), equal on all devices; None for an
      architecture, which has no such banks.

  Returns:
    Gradients of the same structure, equal on all devices.
  """
  if num_shards() == 1:
    return grads
  own = bank.banks(network)
  rows = {b.name: _psum_rows(b, grads[b.name], drawn or {}) for b in own}
  norms = norm_paths_outside_banks(network)
  named = {k: g for k, g in grads.items() if k not in rows}
  named = flatten_dict(named, keep_empty_nodes=True)
  # In one call, so that XLA can send them together.
  sums = psum(
    {
      path: leaf
      for path, leaf in named.items()
      if leaf is not empty_node and path[:-1] not in norms
    }
  )
  return {**unflatten_dict({**named, **sums}), **rows}


@functools.lru_cache(maxsize=64)
def norm_paths_outside_banks(network: Network) -> frozenset[tuple[str, ...]]:
  """The paths of `BatchNorm`s among the named trees of a network's module."""
  return frozenset(
    (edge.name, edge.op.name, *path)
    for edge in network.layers
    if len(edge.ops) == 1
    for path in candidate_norm_paths(edge.op, bank.nameless(edge))
  )


def _psum_rows(
  own: bank.Bank, rows: jax.Array, drawn: Mapping[str, jax.Array]
) -> jax.Array:
  # Which entries a row has is known when the program runs: a branch for each
  # candidate. All devices take the same one, so their exchanges match.
  spans = [bank.unsummed_spans(op, own.form) for op in own.form.ops]
  branches = [functools.partial(_psum_spans, of_op) for of_op in spans]
  if len(branches) == 1:
    return branches[0](rows)

  def edge(
    _: None, of_edge: tuple[jax.Array, jax.Array]
  ) -> tuple[None, jax.Array]:
    candidate, row = of_edge
    return None, lax.switch(candidate, branches, row)

  return lax.scan(edge, None, (drawn[own.name], rows))[1]


def _psum_spans(
  spans: tuple[tuple[int, int], ...], row: jax.Array
) -> jax.Array:
  """Sums some spans of f[..., length] over devices; all else stays."""
  if not spans:
    return row
  sums = psum(jnp.concatenate([row[..., a:b] for a, b in spans], axis=-1))
  pieces, taken, end = [], 0, 0
  for start, stop in spans:
    pieces.append(row[..., end:start])
    pieces.append(sums[..., taken : taken + stop - start])
    taken, end = taken + stop - start, stop
  return jnp.concatenate([*pieces, row[..., end:]], axis=-1)
