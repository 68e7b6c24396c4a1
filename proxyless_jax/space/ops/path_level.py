"""The block of PathLevel-EAS: Cai, Yang, Zhang, Han, Yu, ICML 2018."""

from __future__ import annotations

import dataclasses

from proxyless_jax.space.edge import Edge, Op
from proxyless_jax.space.ops.checks import (
  check_own_shortcut,
  check_pads_shortcut,
)
from proxyless_jax.space.ops.common import AvgPool, MaxPool, Norm
from proxyless_jax.space.ops.tree import NormConv, NormSepConv

EXPAND = 4


@dataclasses.dataclass(frozen=True)
class Branches:
  """A node of a tree cell.

  Attributes:
    merge: 'mean': each branch reads the whole input, and the output is their
      mean; 'concat': each reads its part of the channels, and the output is
      their concatenation.
    branches: pairs of an operation and the node below it, or None.
  """

  merge: str
  branches: tuple[tuple[Op, Branches | None], ...]

  def edges(self, above: Edge) -> tuple[Edge, ...]:
    """The edges of its branches, below the edge `above`."""
    width = above.features_out
    if self.merge == "concat":
      width //= len(self.branches)
    return tuple(
      _below(above, f"{above.name}_{i}", op, features_in=width, width=width)
      for i, (op, _) in enumerate(self.branches)
    )

  def all_edges(self, above: Edge) -> list[Edge]:
    """The edges of its branches and of all nodes below it."""
    found = []
    for edge, (_, node) in zip(self.edges(above), self.branches):
      found.append(edge)
      found += node.all_edges(edge) if node else []
    return found


def _below(
  above: Edge, name: str, op: Op, *, features_in: int, width: int
) -> Edge:
  return dataclasses.replace(
    above,
    name=name,
    ops=(op,),
    features_in=features_in,
    features_out=width,
    stride=1,
    size=above.size_out,
  )


_POOL = AvgPool(3)
_SEP3, _SEP5, _SEP7 = (NormSepConv(kernel) for kernel in (3, 5, 7))
# The authors' code, han-cai/PathLevel-EAS, code/ImageNet/tree_cells.py; below
# the two branches of the root, 3x3 convolutions in two groups. That code, for
# CondenseNet, shuffles channels after these; the code for PyramidNet on CIFAR,
# whose block this is, has no shuffle (code/CIFAR/models/layers.py, ConvLayer).
TREE_CELL_A = (
  Branches(
    "mean",
    (
      (
        NormConv(1),
        Branches("concat", ((_POOL, None), (_SEP7, None))),
      ),
      (MaxPool(3), Branches("mean", ((_SEP3, None), (_SEP5, None)))),
    ),
  ),
  Branches(
    "mean",
    (
      (
        _SEP5,
        Branches("mean", ((_SEP5, None), (_POOL, None), (_POOL, None))),
      ),
      (_SEP3, Branches("mean", ((_POOL, None), (_SEP3, None)))),
    ),
  ),
)


@dataclasses.dataclass(frozen=True)
class TreeCellBlock(Op):
  """PyramidNet's bottleneck block with TreeCell-A for its 3x3 convolution.

  Batch norm, 1x1; the tree; batch norm, ReLU, 1x1; batch norm. The root of the
  tree has the stride. The shortcut is the input, averaged over stride x stride,
  with zeros for the channels that it lacks.
  """

  name = "tree_cell_a_block"

  def ends(self, edge: Edge) -> tuple[Edge, Edge, Edge]:
    """The edges of the first convolution, the last one and the last norm."""
    hidden, width = edge.features_out // EXPAND, edge.features_out
    first = dataclasses.replace(
      edge,
      name="reduce",
      ops=(NormConv(1, relu=False),),
      features_out=hidden,
      stride=1,
    )
    # The tree's output has the size of an edge of its stride.
    tree = dataclasses.replace(first, stride=edge.stride)
    last = _below(tree, "widen", NormConv(1), features_in=hidden, width=width)
    norm = _below(
      last, "norm", Norm(relu=False), features_in=width, width=width
    )
    return first, last, norm

  def roots(self, edge: Edge) -> list[Edge]:
    """The edges of the convolutions at the root."""
    hidden = edge.features_out // EXPAND
    return [
      dataclasses.replace(
        edge,
        name=f"tree_{i}",
        ops=(NormConv(3, groups=2),),
        features_in=hidden,
        features_out=hidden,
      )
      for i in range(len(TREE_CELL_A))
    ]

  def _edges(self, edge: Edge) -> list[Edge]:
    found = list(self.ends(edge))
    for root, node in zip(self.roots(edge), TREE_CELL_A):
      found += [root, *node.all_edges(root)]
    return found

  def parameters(self, edge: Edge) -> int:
    return sum(inner.op.parameters(inner) for inner in self._edges(edge))

  def macs(self, edge: Edge) -> int:
    return sum(inner.op.macs(inner) for inner in self._edges(edge))

  def check(self, edge: Edge) -> None:
    check_own_shortcut(self, edge)
    check_pads_shortcut(self, edge, 2 * EXPAND)
