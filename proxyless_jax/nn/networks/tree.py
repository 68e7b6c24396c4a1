"""The module of PyramidNets with trees: supernets and architectures alike.

`proxyless_jax.space.networks.tree` describes how a block is wired. An
architecture runs block by block, edge by edge. A supernet runs blocks that are
stored alike (`proxyless_jax.nn.supernet.tree_banks`) in one loop, and all edges
of a block's trees in another, so that it compiles a few blocks of one edge
each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from proxyless_jax.nn.layers.batch_norm import MOMENTS
from proxyless_jax.nn.layers.channels import fit_channels, pooled_shortcut
from proxyless_jax.nn.layers.dropout import drop_path, dropout_key
from proxyless_jax.nn.networks.base import NetworkModule, network_module
from proxyless_jax.nn.ops.base import MakeOptions
from proxyless_jax.nn.supernet import bank
from proxyless_jax.nn.supernet.kernel_sharing import kernel_groups
from proxyless_jax.nn.supernet.mixed import (
  EdgeGates,
  KernelGroup,
  mixed_edges,
  scan,
)
from proxyless_jax.nn.supernet.tree_banks import BlockRun, block_runs
from proxyless_jax.nn.supernet.wiring import Graph
from proxyless_jax.space import Block, Edge, Identity, NormConv, Tree
from proxyless_jax.space.networks.tree import tree_graph

# What the backward pass of an edge outside the trees keeps: it recomputes the
# rest.
MOMENTS_ALONE = jax.checkpoint_policies.save_only_these_names(MOMENTS)

RunEdge = Callable[[Edge, jax.Array], jax.Array]
RunTrees = Callable[[list[jax.Array]], list[jax.Array]]


class TreeModule(NetworkModule):
  """Runs the stem, the blocks in order, the classifier.

  The banks of a space's blocks are those that `tree_banks` lists. Drop path
  drops an architecture's tree edges, each by itself and for one example each,
  identities excepted.
  """

  network: Tree

  def run(
    self,
    x: jax.Array,
    train: bool,
    gates: Any,
    drop_rate: jax.Array | None,
  ) -> jax.Array:
    for edge in self.network.before:
      x = self.edge(edge, x, train)
    if self.network.is_architecture:
      for block in self.network.blocks:
        x = self._alone(block, x, drop_rate, train)
    else:
      x = self._searched(x, gates, train)
    for edge in self.network.after:
      x = self.edge(edge, x, train)
    return x

  def _alone(
    self, block: Block, x: jax.Array, rate: jax.Array | None, train: bool
  ) -> jax.Array:
    """A block of an architecture."""

    def tree_edge(edge: Edge, x: jax.Array) -> jax.Array:
      y = self.edge(edge, x, train)
      drops = edge.name not in self.frozen and not isinstance(edge.op, Identity)
      if drops and rate is not None:
        y = drop_path(dropout_key(self), y, rate)
      return y

    edge = functools.partial(self.edge, train=train)
    trees = functools.partial(_run_trees, block, tree_edge)
    return _run_block(block, edge, trees, x)

  def _searched(self, x: jax.Array, gates: Any, train: bool) -> jax.Array:
    """The blocks of a space."""
    for run in block_runs(self.network):
      edges = [edge for block in run.blocks for edge in block.edges]
      x = fit_channels(x, run.form.in_bottleneck.features_in)
      x = self._alike(run, x, self.edge_gates(gates, edges), train)
    return fit_channels(x, self.network.after[0].features_in)

  def _alike(
    self, run: BlockRun, x: jax.Array, gates: EdgeGates, train: bool
  ) -> jax.Array:
    """Blocks that are stored alike, one after the other."""
    banks = {own.name: self.get_bank(own.name) for own in run.banks}
    step = functools.partial(_searched_block, run.form, self.options, train)
    # Rows of all blocks lie one after the other: the loop takes a block's.
    # Not -1, which is undefined for banks of statistics of length zero.
    count = len(run.blocks)
    per_block = jax.tree.map(
      lambda a: a.reshape(count, len(a) // count, *a.shape[1:]), (banks, gates)
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


network_module.register(Tree, TreeModule)


def _searched_block(
  form: Block,
  options: MakeOptions,
  train: bool,
  x: jax.Array,
  own: tuple[dict[str, tuple[jax.Array, jax.Array]], EdgeGates, jax.Array],
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Runs a block of a space, by rows of its banks.

  Args:
    form: block with the widths that it is stored with.
    options, train: arguments of `kernel_groups`.
    x: f[b, h, w, c].
    own: this block's rows of each bank by name, parameters and statistics
      f[n, k, .]; its gates; and i32[2], channels of a half and of its output.

  Returns:
    The block's output; its rows of statistics by bank.
  """
  (banks, gates, (half, width)), new = own, {}

  def groups(edge: Edge) -> list[KernelGroup]:
    return kernel_groups(edge.ops, bank.nameless(edge), options, train)

  def edge(edge: Edge, x: jax.Array) -> jax.Array:
    (group,), (params, stats) = groups(edge), banks[edge.name]
    # Normalised maps are recomputed: two for each that would be saved.
    run = jax.checkpoint(group.run, policy=MOMENTS_ALONE)
    y, row, *_ = run(jnp.int32(0), params[0, 0], stats[0, 0], x)
    new[edge.name] = row[None, None]
    return _own_channels(form, edge, y, half, width)

  def trees(halves: list[jax.Array]) -> list[jax.Array]:
    first, count = form.edges[0], len(form.edges)
    graph = Graph(tree_graph(len(halves), form.branches, count))
    nodes = jnp.stack(halves)
    params, stats = banks[first.name]
    y, new[first.name] = mixed_edges(
      groups(first), params, stats, nodes, gates, graph
    )
    return list(y)

  return _run_block(form, edge, trees, x), new


def _own_channels(
  form: Block, edge: Edge, y: jax.Array, half: jax.Array, width: jax.Array
) -> jax.Array:
  """Puts an edge's own channels where the next edge reads them.

  Args:
    form: block with the widths that it is stored with.
    edge: edge of it, outside the trees.
    y: f[b, h, w, c], the edge's output.
    half, width: i32[], own channels of a half and of the block's output.
  """
  if edge is form.conv and isinstance(edge.op, NormConv) and edge.op.shuffle:
    return _spread(y, len(form.branch_norms), half)
  if edge is not form.final_norm:
    return y
  # The next block's shortcut adds channels that this one lacks to some that the
  # next one has: without the zeros they would get a gradient from there.
  return jnp.where(jnp.arange(y.shape[-1]) < width, y, 0)


def _spread(y: jax.Array, halves: int, width: jax.Array) -> jax.Array:
  """Moves halves that follow each other to where wider ones are stored.

  A shuffle of stored groups leaves the block's own channels in front, in their
  order, and the zeros that it lacks behind them all.

  Args:
    y: f[b, h, w, halves * stored].
    halves: number of halves.
    width: i32[], number of own channels of each.

  Returns:
    f[b, h, w, halves * stored]: each half's own channels, then zeros.
  """
  stored = y.shape[-1] // halves
  parts = [
    jax.lax.dynamic_slice_in_dim(y, i * width, stored, axis=-1)
    for i in range(halves)
  ]
  own = jnp.arange(stored) < width
  return jnp.concatenate([jnp.where(own, part, 0) for part in parts], axis=-1)


def _run_block(
  block: Block, edge: RunEdge, trees: RunTrees, x: jax.Array
) -> jax.Array:
  """Runs a block, by functions that run its parts.

  Args:
    block: the block.
    edge: function (edge, x) -> y that runs an edge outside the trees.
    trees: function from the inputs of all trees to their outputs.
    x: f[b, h, w, c].
  """
  y = edge(block.in_bottleneck, x)
  y = edge(block.conv, y)
  halves = jnp.split(y, len(block.branch_norms), axis=-1)
  y = jnp.zeros_like(halves[0])
  for norm, half, tree in zip(block.branch_norms, halves, trees(halves)):
    y += edge(norm, tree) + half
  y = edge(block.out_bottleneck, y)
  y = edge(block.final_norm, y)
  return y + pooled_shortcut(x, block.conv.stride, y.shape[-1])


def _run_trees(
  block: Block, edge: RunEdge, halves: list[jax.Array]
) -> list[jax.Array]:
  """The output of the tree of each half, edge by edge.

  Args:
    block: the block.
    edge: function (edge, x) -> y that runs an edge of a tree.
    halves: inputs f[b, h, w, c], one for each tree.
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
