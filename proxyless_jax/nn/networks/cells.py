"""The module of networks of cells."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from proxyless_jax.nn.layers.dropout import drop_path, dropout_key
from proxyless_jax.nn.networks.chain import (
  PlainEdge,
  check_images,
  check_variables,
)
from proxyless_jax.space import Cell, CellNetwork, Edge, Path


class CellNetworkModule(nn.Module):
  """Runs the stem, the cells in order, the head.

  Variables of an edge lie under its name, then its operation's.

  Attributes:
    network: whose edges have one operation each.
    dtype: of activations; parameters stay float32.
    bn_momentum: of the running batch-norm statistics.
    dropout: rate before the classifier.
    frozen: names of an architecture's edges that run as in evaluation when
      others train: with running statistics, and without drop path.
  """

  network: CellNetwork
  dtype: jnp.dtype = jnp.float32
  bn_momentum: float = 0.9
  dropout: float = 0.0
  frozen: frozenset[str] = frozenset()

  @nn.compact
  def __call__(self, images, train: bool, gates=None, drop_rate=None):
    """Logits of images.

    Args:
      images: f[b, *network.image_shape].
      train: batch statistics and dropout, or running statistics.
      gates: unused: nothing is searched.
      drop_rate: f[], of the paths into nodes in training, of one example each,
        identities excepted, at one rate for all cells, as DARTS does it. (The
        rate of NASNet and ENAS grows with depth; they spare skips of stride 2
        too.) None for none. Needs `rngs={'dropout': key}`.

    Returns:
      f32[b, classes].

    Raises:
      ValueError: images of another shape.
    """
    del gates
    check_images(self.network, images)
    check_variables(self)
    rate = drop_rate if train else None
    x = self._run(self.network.before, images, train)
    before = [x, x]
    for cell in self.network.cells:
      before = [before[1], self._cell(cell, before, train, rate)]
    return self._run(self.network.after, before[1], train)

  def _cell(self, cell: Cell, before: list, train: bool, rate):
    states = [self._path(path, before, train) for path in cell.inputs]
    for paths in cell.nodes:
      added = [self._path(path, states, train, rate) for path in paths]
      states.append(sum(added[1:], start=added[0]))
    outputs = [self._path(path, states, train) for path in cell.outputs]
    return jnp.concatenate(outputs, axis=-1)

  def _path(self, path: Path, states: list, train: bool, rate=None):
    x = self._run(path.edges, states[path.source], train)
    trains = any(edge.name not in self.frozen for edge in path.edges)
    if trains and rate is not None:
      x = drop_path(dropout_key(self), x, rate)
    return x

  def _run(self, edges: tuple[Edge, ...], x, train: bool):
    options = (("bn_momentum", self.bn_momentum), ("dropout", self.dropout))
    for edge in edges:
      # Linen's own layers give float32 for bfloat16, by their parameters.
      x = x.astype(self.dtype)
      trains = train and edge.name not in self.frozen
      x = PlainEdge(edge, options, name=edge.name)(x, trains)
    return x
