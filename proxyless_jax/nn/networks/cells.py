"""The module of networks of cells."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from proxyless_jax.nn.layers.dropout import drop_path, dropout_key
from proxyless_jax.nn.networks.base import NetworkModule, network_module
from proxyless_jax.space import Cell, CellNetwork, Edge, Path


class CellNetworkModule(NetworkModule):
  """Runs the stem, the cells in order, the head; nothing is searched.

  Drop path drops the paths into nodes, of one example each, identities
  excepted, at one rate for all cells, as DARTS does it. (The rate of NASNet and
  ENAS grows with depth; they spare skips of stride 2 too.)
  """

  network: CellNetwork

  def run(
    self,
    x: jax.Array,
    train: bool,
    gates: Any,
    drop_rate: jax.Array | None,
  ) -> jax.Array:
    del gates
    x = self._edges(self.network.before, x, train)
    before = [x, x]
    for cell in self.network.cells:
      before = [before[1], self._cell(cell, before, train, drop_rate)]
    return self._edges(self.network.after, before[1], train)

  def _cell(
    self,
    cell: Cell,
    before: list[jax.Array],
    train: bool,
    rate: jax.Array | None,
  ) -> jax.Array:
    states = [self._path(path, before, train) for path in cell.inputs]
    for paths in cell.nodes:
      added = [self._path(path, states, train, rate) for path in paths]
      states.append(sum(added[1:], start=added[0]))
    outputs = [self._path(path, states, train) for path in cell.outputs]
    return jnp.concatenate(outputs, axis=-1)

  def _path(
    self,
    path: Path,
    states: list[jax.Array],
    train: bool,
    rate: jax.Array | None = None,
  ) -> jax.Array:
    x = self._edges(path.edges, states[path.source], train)
    trains = any(edge.name not in self.frozen for edge in path.edges)
    if trains and rate is not None:
      x = drop_path(dropout_key(self), x, rate)
    return x

  def _edges(
    self, edges: tuple[Edge, ...], x: jax.Array, train: bool
  ) -> jax.Array:
    for edge in edges:
      x = self.edge(edge, x, train)
    return x


network_module.register(CellNetwork, CellNetworkModule)
