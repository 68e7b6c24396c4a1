"""What the modules of all families of networks share.

A family is a description, a subclass of `proxyless_jax.space.Network`, and a
module, a subclass of `NetworkModule` that runs its edges. Where its searched
edges do not form one line, it also registers how they are stored
(`proxyless_jax.nn.banks`). docs/extend.md has an example.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from proxyless_jax.nn.layers.dropout import drop_path, dropout_key
from proxyless_jax.nn.ops.base import MakeOptions, make
from proxyless_jax.nn.supernet import bank
from proxyless_jax.nn.supernet.kernel_sharing import kernel_groups
from proxyless_jax.nn.supernet.mixed import EdgeGates, mixed_edges
from proxyless_jax.nn.supernet.wiring import Line, Wiring
from proxyless_jax.space import Edge, Network


@functools.singledispatch
def network_module(
  network: Network,
  *,
  dtype: jnp.dtype,
  bn_momentum: float,
  dropout: float,
  frozen: frozenset[str],
) -> NetworkModule:
  """The module of a network, by its family; `build` checks the arguments.

  For a family of your own, register its module:

      pj.nn.network_module.register(TwoBranches, TwoBranchesModule)

  Args:
    network: a space or an architecture.
    dtype, bn_momentum, dropout, frozen: attributes of `NetworkModule`.

  Raises:
    TypeError: no module is registered for the network's type.
  """
  del dtype, bn_momentum, dropout, frozen
  kind = type(network).__name__
  raise TypeError(
    f"network is a {kind}, a family without a module: register one by "
    f"proxyless_jax.nn.network_module.register({kind}, module)"
  )


class NetworkModule(nn.Module):
  """The module of a network: checks a call, then runs edges.

  A family's module is a subclass with a method `run`, which calls `edge`,
  `line` and `mixed`. Variables of an edge with one candidate lie under the
  edge's name, then the candidate's; those of searched edges in banks
  (`proxyless_jax.nn.supernet.bank`).

  Attributes:
    network: a space or an architecture.
    dtype: type of activations; parameters stay float32.
    bn_momentum: momentum of the running batch-norm statistics.
    dropout: rate before the classifier.
    frozen: names of an architecture's edges that run as in evaluation when
      others train: with running statistics, and without drop path.
  """

  network: Network
  dtype: jnp.dtype = jnp.float32
  bn_momentum: float = 0.9
  dropout: float = 0.0
  frozen: frozenset[str] = frozenset()

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    train: bool,
    gates: Any = None,
    drop_rate: jax.Array | None = None,
  ) -> jax.Array:
    """Logits of images.

    Args:
      images: f[b, *network.image_shape].
      train: whether to use the batch's statistics and dropout, or running
        statistics.
      gates: draw of a path (`proxyless_jax.nas.gates.Gates`), whose leading
        axis counts the searched edges. None for an architecture.
      drop_rate: f[], rate at which training drops paths; None for none. Which
        paths depends on the family. Needs `rngs={'dropout': key}`.

    Returns:
      f32[b, classes].

    Raises:
      ValueError: images of another shape, a space without gates, or variables
        of another network.
    """
    _check_images(self.network, images)
    _check_gates(self.network, gates)
    _check_variables(self)
    rate = drop_rate if train else None
    return self.run(images.astype(self.dtype), train, gates, rate)

  def run(
    self,
    x: jax.Array,
    train: bool,
    gates: Any,
    drop_rate: jax.Array | None,
  ) -> jax.Array:
    """Logits of checked images: the family's own part of a call.

    Args:
      x: images f[b, *network.image_shape] of type `dtype`.
      train: whether to use the batch's statistics and dropout.
      gates: draw of a path, None for an architecture.
      drop_rate: f[], or None where no path is dropped, as in evaluation.

    Returns:
      f32[b, classes].
    """
    raise NotImplementedError

  def edge(self, edge: Edge, x: jax.Array, train: bool) -> jax.Array:
    """Runs an edge with one candidate, without its shortcut.

    Args:
      edge: edge of the network, each once in a call.
      x: f[b, *edge.shape_in].
      train: whether to train it; a frozen edge runs as in evaluation even so.

    Returns:
      f[b, *edge.shape_out], or logits.
    """
    # Linen's own layers give float32 for bfloat16, by their parameters.
    x = x.astype(self.dtype)
    return _PlainEdge(edge, self.options, name=edge.name)(
      x, train and edge.name not in self.frozen
    )

  def line(
    self,
    edges: tuple[Edge, ...],
    x: jax.Array,
    train: bool,
    gates: Any = None,
    drop_rate: jax.Array | None = None,
  ) -> jax.Array:
    """Runs edges one after the other, each with its shortcut if it has one.

    Args:
      edges: searched and fixed edges. The banks of the searched ones are those
        that `line_banks(edges)` describes.
      x: f[b, h, w, c], input of the first edge.
      train: whether to use the batch's statistics and dropout.
      gates: draw of a path; None where all edges have one candidate.
      drop_rate: f[], rate at which paths beside shortcuts are dropped, of edges
        with one candidate; None for none.

    Returns:
      The last edge's output.
    """
    # The runs are those of `line_banks`, so a run of searched edges is a bank.
    for run in bank.alike_runs(edges):
      if len(run[0].ops) > 1:
        x = self.mixed(run, x, train, gates, Line(run[0].shortcut))
        continue
      for edge in run:
        y = self.edge(edge, x, train)
        trains = edge.name not in self.frozen
        if edge.shortcut and trains and drop_rate is not None:
          y = drop_path(dropout_key(self), y, drop_rate)
        x = x.astype(self.dtype) + y if edge.shortcut else y
    return x

  def mixed(
    self,
    edges: list[Edge],
    x: jax.Array,
    train: bool,
    gates: Any,
    wiring: Wiring,
  ) -> jax.Array:
    """Runs the drawn candidates of searched edges that are alike.

    Args:
      edges: edges of one bank, in its order; consecutive in `network.edges`.
      x: input of the wiring: see `mixed_edges`.
      train: whether to use the batch's statistics.
      gates: draw of a path.
      wiring: description of how the edges are joined.

    Returns:
      The wiring's output: see `mixed_edges`.

    Raises:
      ValueError: the edges are not those of one of the network's banks.
    """
    _check_bank(self.network, edges)
    first = edges[0]
    position = bank.nameless(first)
    groups = kernel_groups(first.ops, position, self.options, train)
    params, stats = self.get_bank(first.name)
    own = self.edge_gates(gates, edges)
    x, new = mixed_edges(groups, params, stats, x, own, wiring)
    # The functions above are pure: here the variable gets their result.
    if train and self.is_mutable_collection("batch_stats"):
      self.put_variable("batch_stats", first.name, new)
    return x

  @property
  def options(self) -> MakeOptions:
    """Keyword arguments of `make`, as pairs: hashable."""
    return (("bn_momentum", self.bn_momentum), ("dropout", self.dropout))

  def get_bank(self, name: str) -> tuple[jax.Array, jax.Array]:
    """A bank's parameters f[n, k, length] and statistics f[n, k, length'].

    Raises:
      ValueError: there is no such bank.
    """
    # Not `self.param`: Linen would compile an initialiser, and refuse drawn
    # rows f[n, 1, length], whose shape is not that of the bank.
    params: jax.Array | None = self.get_variable("params", name)
    if params is None:
      raise ValueError(
        f"no bank of parameters {name!r}: make a space's variables by "
        "`proxyless_jax.init(module, key)`, since `module.init` would take "
        "minutes to compile"
      )
    return params, self.get_variable("batch_stats", name)

  def edge_gates(self, gates: Any, edges: list[Edge]) -> EdgeGates:
    """The gates of some edges, without the padding of their candidates.

    Args:
      gates: draw of a path.
      edges: alike edges, consecutive in `network.edges`.
    """
    names = [edge.name for edge in self.network.edges]
    first, count = names.index(edges[0].name), len(edges[0].ops)
    # A slice of fixed bounds, which costs nothing; indices would be a gather.
    rows = slice(first, first + len(edges))
    return EdgeGates(
      gates.index[rows], gates.gate[rows, :count], gates.involved[rows, :count]
    )


class _PlainEdge(nn.Module):
  """An edge with one candidate: its name is the scope of the variables."""

  edge: Edge
  options: MakeOptions

  @nn.compact
  def __call__(self, x, train: bool):
    # The operation's name is part of the path too, so that the names of
    # variables show which candidate they belong to.
    op = self.edge.op
    return make(op, self.edge, name=op.name, **dict(self.options))(x, train)


def _check_images(network: Network, images) -> None:
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


def _check_gates(network: Network, gates) -> None:
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


def _check_bank(network: Network, edges: list[Edge]) -> None:
  """Raises a ValueError for edges that are not one of the network's banks."""
  known = {own.name: own.edges for own in bank.banks(network)}
  if known.get(edges[0].name) != tuple(edges):
    names = [edge.name for edge in edges]
    kept = [[edge.name for edge in own] for own in known.values()]
    raise ValueError(
      f"the module of a {type(network).__name__} runs the edges {names} "
      f"together: expected those of one of its banks, which hold {kept}: "
      "register how they are stored by proxyless_jax.nn.banks.register, such "
      "as line_banks of each line"
    )


def _check_variables(module: NetworkModule) -> None:
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
