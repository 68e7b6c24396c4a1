"""The module of PyramidNets with trees: supernets and architectures alike.

How a block is wired is said in `proxyless_jax.space.networks.tree`. An
architecture runs block by block, edge by edge. A supernet runs its blocks by
runs that are stored alike (`proxyless_jax.nn.supernet.tree_banks`), and all
edges of a block's trees by one loop, so that it compiles a few blocks of one
edge each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from proxyless_jax.nn.layers.batch_norm import MOMENTS
from proxyless_jax.nn.layers.dropout import drop_path, dropout_key
from proxyless_jax.nn.networks.chain import (
  PlainEdge,
  check_gates,
  check_images,
  check_variables,
  get_banks,
  slice_gates,
)
from proxyless_jax.nn.ops.common import average_cells
from proxyless_jax.nn.supernet import bank
from proxyless_jax.nn.supernet.kernel_sharing import families_of
from proxyless_jax.nn.supernet.mixed import EdgeGates, mixed_edges, scan
from proxyless_jax.nn.supernet.tree_banks import BlockRun, block_runs
from proxyless_jax.nn.supernet.wiring import Graph
from proxyless_jax.space import Block, Edge, Identity, NormConv, Tree
from proxyless_jax.space.networks.tree import tree_graph

MOMENTS_ALONE = jax.checkpoint_policies.save_only_these_names(MOMENTS)


class TreeModule(nn.Module):
  """Runs the stem, the blocks in order, the classifier.

  Variables of an architecture's edge lie under the edge's name, then the
  operation's. Those of a space's blocks lie in banks
  (`proxyless_jax.nn.supernet.bank`), which `tree_banks` lists.

  Attributes:
    network: a space or an architecture.
    dtype: of activations; parameters stay float32.
    bn_momentum: of the running batch-norm statistics.
    dropout: rate before the classifier.
    frozen: names of an architecture's edges that run as in evaluation when
      others train: with running statistics, and without drop path.
  """

  network: Tree
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
      drop_rate: f[], of an architecture's tree edges in training, each by
        itself and for one example each, identities excepted; None for none.
        Needs `rngs={'dropout': key}`.

    Returns:
      f32[b, classes].

    Raises:
      ValueError: images of another shape, or a space without gates.
    """
    check_images(self.network, images)
    check_gates(self.network, gates)
    check_variables(self)
    x = images.astype(self.dtype)
    for edge in self.network.before:
      x = self._edge(edge, x, train)
    if self.network.is_architecture:
      rate = drop_rate if train else None
      for block in self.network.blocks:
        x = self._alone(block, x, rate, train)
    else:
      x = self._searched(x, gates, train)
    for edge in self.network.after:
      x = self._edge(edge, x, train)
    return x

  def _alone(self, block: Block, x, rate, train: bool):
    """A block of an architecture."""

    def tree_edge(edge: Edge, x):
      y = self._edge(edge, x, train)
      drops = rate is not None and edge.name not in self.frozen
      if drops and not isinstance(edge.op, Identity):
        y = drop_path(dropout_key(self), y, rate)
      return y

    edge = functools.partial(self._edge, train=train)
    trees = functools.partial(_run_trees, block, tree_edge)
    return _run_block(block, edge, trees, x)

  def _edge(self, edge: Edge, x, train: bool):
    # Linen's own layers give float32 for bfloat16, by their parameters.
    x = x.astype(self.dtype)
    trains = train and edge.name not in self.frozen
    return PlainEdge(edge, self._options, name=edge.name)(x, trains)

  @property
  def _options(self):
    return (("bn_momentum", self.bn_momentum), ("dropout", self.dropout))

  def _searched(self, x, gates, train: bool):
    """The blocks of a space."""
    first = 0
    for run in block_runs(self.network):
      edges = [edge for block in run.blocks for edge in block.edges]
      own = slice_gates(gates, first, edges)
      x = _fit(x, run.form.in_bottleneck.features_in)
      x = self._run(run, x, own, train)
      first += len(edges)
    return _fit(x, self.network.after[0].features_in)

  def _run(self, run: BlockRun, x, gates: EdgeGates, train: bool):
    """Blocks that are stored alike, one after the other."""
    banks = {own.name: get_banks(self, own.name) for own in run.banks}
    step = functools.partial(_searched_block, run.form, self._options, train)
    per_block = jax.tree.map(
      lambda a: a.reshape(len(run.blocks), -1, *a.shape[1:]), (banks, gates)
    )
    widths = jnp.array(
      [
        (b.branch_norms[0].features_in, b.final_norm.features_out)
        for b in run.blocks
      ]
    )
    x, new = scan(step, x, (*per_block, widths))
    if train and self.is_mutable_collection("batch_stats"):
      for name, rows in new.items():
        shape = banks[name][1].shape
        self.put_variable("batch_stats", name, rows.reshape(shape))
    return x


def _searched_block(form: Block, options, train: bool, x, own):
  """A block of a space, by rows of its banks.

  Args:
    form: as the block is stored.
    options: keyword arguments of `make`, as pairs.
    train: as in a module's call.
    x: f[b, h, w, c].
    own: the block's rows of each bank, by name: parameters and statistics
      f[n, k, .]; the gates of its edges; and i32[2], how many channels each of
      its halves and its output have.

  Returns:
    The block's output; its rows of statistics, by the names of the banks.
  """
  (banks, gates, (half, width)), new = own, {}

  def families(edge: Edge):
    return families_of(edge.ops, bank.nameless(edge), options, train)

  def edge(edge: Edge, x):
    (family,), (params, stats) = families(edge), banks[edge.name]
    # Normalised maps are recomputed: two for each that would be saved.
    run = jax.checkpoint(family.run, policy=MOMENTS_ALONE)
    y, row, _ = run(jnp.int32(0), params[0, 0], stats[0, 0], x)
    new[edge.name] = row[None, None]
    if edge is form.conv and isinstance(edge.op, NormConv) and edge.op.shuffle:
      return _spread(y, len(form.branch_norms), half)
    if edge is not form.final_norm:
      return y
    # The next block's shortcut adds channels that this one lacks to some that
    # the next one has: but for the mask they would get a gradient from there.
    return jnp.where(jnp.arange(y.shape[-1]) < width, y, 0)

  def trees(halves):
    first, count = form.edges[0], len(form.edges)
    graph = Graph(tree_graph(len(halves), form.branches, count))
    nodes = jnp.stack(halves)
    y, new[first.name] = mixed_edges(
      families(first), *banks[first.name], nodes, gates, graph
    )
    return list(y)

  return _run_block(form, edge, trees, x), new


def _spread(y, halves: int, width):
  """Moves halves that follow each other to where wider ones are stored.

  A shuffle of stored groups leaves the block's own channels in front, in their
  order, and the zeros that it lacks behind them all.

  Args:
    y: f[b, h, w, halves * stored].
    halves: how many.
    width: i32[], own channels of each.

  Returns:
    y's shape: each half's own channels, then zeros.
  """
  stored = y.shape[-1] // halves
  parts = [
    jax.lax.dynamic_slice_in_dim(y, i * width, stored, axis=-1)
    for i in range(halves)
  ]
  own = jnp.arange(stored) < width
  return jnp.concatenate([jnp.where(own, part, 0) for part in parts], axis=-1)


def _run_block(block: Block, edge: Callable, trees: Callable, x):
  """How a block is wired.

  Args:
    block: the block.
    edge: runs an edge outside the trees: (edge, x) -> y.
    trees: from the input of each tree to its output.
    x: f[b, h, w, c].
  """
  y = edge(block.in_bottleneck, x)
  y = edge(block.conv, y)
  halves = jnp.split(y, len(block.branch_norms), axis=-1)
  y = 0.0
  for norm, half, tree in zip(block.branch_norms, halves, trees(halves)):
    y += edge(norm, tree) + half
  y = edge(block.out_bottleneck, y)
  y = edge(block.final_norm, y)
  x = average_cells(x, block.conv.stride)
  return y + _fit(x, y.shape[-1])


def _run_trees(block: Block, edge: Callable, halves: list) -> list:
  """The output of the tree of each half, edge by edge.

  Args:
    block: which edges lie below which.
    edge: runs an edge of a tree: (edge, x) -> y.
    halves: inputs f[b, h, w, c].
  """
  nodes = halves
  for level in block.levels:
    above = nodes
    nodes = [
      edge(own, above[i // block.branches]) for i, own in enumerate(level)
    ]
  count = len(nodes) // len(halves)
  return [
    sum(nodes[i + 1 : i + count], start=nodes[i])
    for i in range(0, len(nodes), count)
  ]


def _fit(x, features: int):
  """Appends channels of zeros, or leaves out such ones."""
  lacking = features - x.shape[-1]
  if lacking > 0:
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, lacking)))
  return x[..., :features]
