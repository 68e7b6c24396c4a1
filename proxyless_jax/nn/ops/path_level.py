"""The module of PathLevel-EAS's block."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from proxyless_jax.nn.layers.channels import pooled_shortcut
from proxyless_jax.nn.ops.base import make
from proxyless_jax.space import Edge, TreeCellBlock
from proxyless_jax.space.ops.path_level import TREE_CELL_A, Branches


class TreeCellBlockModule(nn.Module):
  """Bottleneck with a tree of operations, beside its shortcut."""

  op: TreeCellBlock
  edge: Edge
  bn_momentum: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    first, last, norm = self.op.ends(self.edge)
    y = self._run(first, x, train)
    trees = [
      self._node(node, root, self._run(root, y, train), train)
      for node, root in zip(TREE_CELL_A, self.op.roots(self.edge))
    ]
    y = self._run(last, sum(trees[1:], start=trees[0]) / len(trees), train)
    y = self._run(norm, y, train)
    return pooled_shortcut(x, self.edge.stride, self.edge.features_out) + y

  def _node(self, node: Branches, above: Edge, x, train: bool):
    count = len(node.branches)
    concat = node.merge == "concat"
    parts = jnp.split(x, count, axis=-1) if concat else [x] * count
    outputs = []
    for edge, part, (_, below) in zip(node.edges(above), parts, node.branches):
      y = self._run(edge, part, train)
      outputs.append(self._node(below, edge, y, train) if below else y)
    if concat:
      return jnp.concatenate(outputs, axis=-1)
    return sum(outputs[1:], start=outputs[0]) / count

  def _run(self, edge: Edge, x, train: bool):
    options = {"bn_momentum": self.bn_momentum, "dropout": 0.0}
    return make(edge.op, edge, name=edge.name, **options)(x, train)


@make.register
def _(op: TreeCellBlock, edge, *, name, bn_momentum, dropout):
  del dropout
  return TreeCellBlockModule(op, edge, bn_momentum, name=name)
