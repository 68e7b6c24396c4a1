"""Initial variables of a network's module, drawn on the host."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from proxyless_jax.nn.layers.declare import Declared
from proxyless_jax.nn.ops import shapes
from proxyless_jax.nn.supernet import bank
from proxyless_jax.space import Edge, Network, Op

COLLECTIONS = ("params", "batch_stats")


def init(module: nn.Module, key: jax.Array) -> dict:
  """Variables {'params', 'batch_stats'} of a network's module.

  Nothing is compiled for the layers of this package; other modules run their
  own initialisers.

  Args:
    module: module of a network, as `build` gives.
    key: PRNG key.

  Returns:
    {'params', 'batch_stats'}: named trees, and banks of searched edges.

  Raises:
    ValueError: not the module of a network, or no PRNG key.
  """
  _check(module, key)
  rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
  variables = _draw_all(rng, module.network)
  # Copies: what is donated to a step must not be memory of NumPy.
  return jax.device_put(variables, may_alias=False)


def _check(module, key) -> None:
  if not isinstance(getattr(module, "network", None), Network):
    raise ValueError(
      f"module is of type {type(module).__name__}: expected the module of a "
      "network, as pj.build(network) gives"
    )
  if not isinstance(key, jax.Array):
    raise ValueError(
      f"key = {key!r}: expected a PRNG key, such as jax.random.key(0)"
    )


def _draw_all(rng: np.random.Generator, network: Network) -> dict:
  """The variables of all edges, in the order in which they run."""
  variables: dict[str, dict[str, Any]] = {name: {} for name in COLLECTIONS}
  banks = {b.edges[0].name: b for b in bank.banks(network)}
  banked = {edge.name for own in banks.values() for edge in own.edges}
  for edge in network.layers:
    if edge.name in banks:
      own = banks[edge.name]
      rows = [_edge(rng, edge) for edge in own.edges]
      for collection, tree in variables.items():
        tree[own.name] = _rows(own, collection, rows)
    elif edge.name not in banked:
      candidates = list(zip(edge.ops, _edge(rng, edge)))
      for collection, tree in variables.items():
        named = {op.name: trees[collection] for op, trees in candidates}
        if jax.tree.leaves(named):
          tree[edge.name] = named
  return variables


def _edge(rng: np.random.Generator, edge: Edge) -> list[dict]:
  """The variables of each candidate of an edge."""
  return [_candidate(rng, op, bank.nameless(edge)) for op in edge.ops]


def _rows(
  own: bank.Bank, collection: str, rows: list[list[dict]]
) -> np.ndarray:
  """A bank f[n, k, length]."""
  packed = [
    [
      own.pack(op, collection, variables[collection])
      for op, variables in zip(own.form.ops, candidates)
    ]
    for candidates in rows
  ]
  return np.array(packed)


def _candidate(rng: np.random.Generator, op: Op, position: Edge) -> dict:
  # Only shapes and distributions are traced, once per kind of candidate; the
  # numbers come from NumPy: a thousand random draws would compile for minutes.
  boxed = shapes.declared_shapes(op, position)
  leaves, structure = jax.tree.flatten(boxed, is_leaf=_is_declared)
  # Variables of layers from outside, which declare no distribution.
  others: Iterator[jax.Array] = iter(())
  if not all(map(_is_declared, leaves)):
    key = jax.random.key(int(rng.integers(2**31)))
    others = iter(_own_initialisers(op, position)(key))
  return jax.tree.unflatten(
    structure,
    (
      _draw(rng, leaf) if _is_declared(leaf) else np.asarray(next(others))
      for leaf in leaves
    ),
  )


def _draw(rng: np.random.Generator, box: Declared) -> np.ndarray:
  shape, dtype = box.value.shape, box.value.dtype
  if box.deviation == 0.0:
    return np.full(shape, box.mean, dtype)
  draw = rng.standard_normal(shape, np.float32)
  return (box.mean + box.deviation * draw).astype(dtype)


@functools.lru_cache(maxsize=4096)
def _own_initialisers(
  op: Op, position: Edge
) -> Callable[[jax.Array], list[jax.Array]]:
  """Key -> the variables of a candidate that declare no distribution."""

  @jax.jit
  def run(key: jax.Array) -> list[jax.Array]:
    boxed = shapes.declared_variables(op, position, key)
    leaves = jax.tree.leaves(boxed, is_leaf=_is_declared)
    return [leaf for leaf in leaves if not _is_declared(leaf)]

  return run


def _is_declared(leaf) -> bool:
  return isinstance(leaf, Declared)
