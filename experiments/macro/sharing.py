"""Filters that candidates share, as in TuNAS (Bender et al., CVPR 2020).

The MBConv of the smaller expansion and kernel has the first hidden channels and
the middle of the kernels of the larger one. The supernet keeps a row for each:
after a step both rows get the mean of what the step moved in either. Momenta
stay apart, in which this differs from one array for both.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from proxyless_jax.nn.supernet.bank import layout, nameless
from proxyless_jax.space import Edge, MBConv, Network


class Shared(NamedTuple):
  """What two candidates of the edges of a bank share.

  Attributes:
    small, large: their numbers.
    at: i64[n], where the n parameters of the small one lie in the large one's.
  """

  small: int
  large: int
  at: np.ndarray


def shared_filters(edge: Edge) -> Shared:
  """Of an edge with two MBConv operations among its candidates."""
  found = [i for i, op in enumerate(edge.ops) if isinstance(op, MBConv)]
  small, large = sorted(found, key=lambda i: edge.ops[i].expand)
  of_small, of_large = (
    layout(edge.ops[i], nameless(edge), "params") for i in (small, large)
  )
  positions = of_large.cut(np.arange(of_large.length))
  parts = [
    whole[tuple(map(_within, shape, whole.shape))]
    for shape, whole in zip(of_small.shapes, positions)
  ]
  tree = of_small.structure.unflatten(parts)
  return Shared(small, large, of_small.pack(tree, of_small.length))


def _within(size: int, whole: int) -> slice:
  """The middle of a kernel's axis, the first of channels."""
  start = (whole - size) // 2 if whole <= 7 else 0
  return slice(start, start + size)


def bank_filters(space: Network) -> dict[str, Shared]:
  """By the names of banks; for spaces whose banks are of alike edges."""
  edges = {nameless(edge): edge for edge in reversed(space.edges)}
  return {edge.name: shared_filters(edge) for edge in edges.values()}


def share(params: dict, filters: dict[str, Shared]) -> dict:
  """Parameters in which the small candidates have the large ones' filters."""
  params = dict(params)
  for name, (small, large, at) in filters.items():
    rows = params[name]
    params[name] = rows.at[:, small, : len(at)].set(rows[:, large, at])
  return params


def keep_shared(before: dict, after: dict, filters: dict[str, Shared]) -> dict:
  """Parameters after a step, shared again.

  Args:
    before, after: parameters of a supernet, f[n, k, length] by names of banks.
      `before` is shared.
    filters: result of `bank_filters`.
  """
  params = dict(after)
  for name, (small, large, at) in filters.items():
    moved = after[name] - before[name]
    did = jnp.any(moved != 0, axis=-1)[:, [small, large]]
    both = moved[:, small, : len(at)] + moved[:, large, at]
    mean = both / jnp.maximum(did.sum(-1, keepdims=True), 1)
    shared = before[name][:, large, at] + mean
    rows = after[name].at[:, small, : len(at)].set(shared)
    params[name] = rows.at[:, large, at].set(shared)
  return params
