"""The module of a chain of edges: supernets and architectures alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from proxyless_jax.nn.layers.dropout import drop_path, dropout_key
from proxyless_jax.nn.ops.base import make
from proxyless_jax.nn.supernet import bank
from proxyless_jax.nn.supernet.kernel_sharing import kernel_groups
from proxyless_jax.nn.supernet.mixed import EdgeGates, mixed_edges
from proxyless_jax.nn.supernet.wiring import Line
from proxyless_jax.space import Chain, Edge, Network


class ChainModule(nn.Module):
  """Runs a network's edges in order, with a shortcut where an edge has one.

  Variables of an edge with one candidate lie under the edge's name, then the
  candidate's. Those of a run of alike edges with several candidates are one
  bank (`proxyless_jax.nn.supernet.bank`) under the first edge's name.

  Attributes:
    network: a space or an architecture.
    dtype: of activations; parameters stay float32.
    bn_momentum: of the running batch-norm statistics.
    dropout: rate before the classifier.
    frozen: names of an architecture's edges that run as in evaluation when
      others train: with running statistics, and without drop path.
  """

  network: Chain
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
      gates: of a draw (`proxyless_jax.nas.gates.Gates`): its leading axis
        counts the searched edges. None for an architecture.
      drop_rate: f[], of the paths beside shortcuts in training; None for none.
        Needs `rngs={'dropout': key}`.

    Returns:
      f32[b, classes].

    Raises:
      ValueError: images of another shape, or a space without gates.
    """
    check_images(self.network, images)
    check_gates(self.network, gates)
    check_variables(self)
    positions = {edge.name: i for i, edge in enumerate(self.network.edges)}
    options = (("bn_momentum", self.bn_momentum), ("dropout", self.dropout))
    x = images.astype(self.dtype)
    for run in bank.alike_runs(self.network.layers):
      if len(run[0].ops) > 1:
        drawn = slice_gates(gates, positions[run[0].name], run)
        x = self._mixed(run[0], options, x, train, drawn)
        continue
      for edge in run:
        # Linen's own layers give float32 for bfloat16, by their parameters.
        x = x.astype(self.dtype)
        trains = train and edge.name not in self.frozen
        y = PlainEdge(edge, options, name=edge.name)(x, trains)
        if edge.shortcut and trains and drop_rate is not None:
          y = drop_path(dropout_key(self), y, drop_rate)
        x = x + y if edge.shortcut else y
    return x

  def _mixed(self, first: Edge, options, x, train: bool, gates: EdgeGates):
    """A run of edges like `first`, each with several candidates."""
    position = bank.nameless(first)
    families = kernel_groups(first.ops, position, options, train)
    params, stats = get_banks(self, first.name)
    line = Line(first.shortcut)
    x, new = mixed_edges(families, params, stats, x, gates, line)
    if train and self.is_mutable_collection("batch_stats"):
      self.put_variable("batch_stats", first.name, new)
    return x


def check_images(network: Network, images) -> None:
  """Raises a ValueError for images of another shape than the network's."""
  if not hasattr(images, "shape"):
    raise ValueError(
      f"images are of type {type(images).__name__}: expected an array "
      "f[b, h, w, c]"
    )
  if images.shape[1:] != network.image_shape:
    expected = ", ".join(map(str, network.image_shape))
    raise ValueError(
      f"images have shape {images.shape}: expected [b, {expected}], as the "
      "network's first edge says"
    )


def check_gates(network: Network, gates) -> None:
  """Raises a ValueError for a space without gates."""
  if gates is None and not network.is_architecture:
    raise ValueError(
      "the network has edges with several candidates: pass `gates` to "
      "`apply`, or choose an architecture first (`space.choose`)"
    )
  if gates is not None and not hasattr(gates, "involved"):
    raise ValueError(
      f"gates are of type {type(gates).__name__}: expected a draw, such as "
      "pj.nas.gates.draw gives"
    )


def check_variables(module: nn.Module) -> None:
  """Raises a ValueError for variables that are not an architecture's own."""
  network = module.network
  if module.is_initializing() or not network.is_architecture:
    return
  params = module.variables.get("params", {})
  if not params and any(edge.op.parameters(edge) for edge in network.layers):
    raise ValueError(
      "variables have no 'params': expected {'params', 'batch_stats'}, as "
      "pj.init(module, key) gives"
    )
  for edge in network.layers:
    if not isinstance(params.get(edge.name, {}), Mapping):
      raise ValueError(
        f"variables of edge {edge.name!r} are a bank, as of a search space: "
        "expected an architecture's own, as pj.inherit(space, variables, "
        "network) gives"
      )


def get_banks(module: nn.Module, name: str):
  """The parameters f[n, k, .] and statistics f[n, k, .] of n alike edges.

  Raises:
    ValueError: there are none.
  """
  params = module.get_variable("params", name)
  if params is None:
    raise ValueError(
      f"no bank of parameters {name!r}: make a space's variables by "
      "`proxyless_jax.init(module, key)`, since `module.init` would take "
      "minutes to compile"
    )
  return params, module.get_variable("batch_stats", name)


class PlainEdge(nn.Module):
  """An edge with one candidate."""

  edge: Edge
  options: tuple[tuple[str, Any], ...]

  @nn.compact
  def __call__(self, x, train: bool):
    op = self.edge.op
    return make(op, self.edge, name=op.name, **dict(self.options))(x, train)


def slice_gates(gates, first: int, edges: list[Edge]) -> EdgeGates:
  """The gates of some edges, without the padding of their candidates."""
  rows = slice(first, first + len(edges))
  count = len(edges[0].ops)
  return EdgeGates(
    gates.index[rows], gates.gate[rows, :count], gates.involved[rows, :count]
  )
