"""'PyramidTreeNet': the CIFAR-10 network."""

from __future__ import annotations

import dataclasses
from typing import Any

from proxyless_jax.space.edge import Edge, Op, Size
from proxyless_jax.space.net_config.fields import Fields
from proxyless_jax.space.net_config.layers import (
  ORDERS,
  batch_norms,
  classifier,
  end_of_conv,
  identity,
  kind,
  plain,
  unchanged,
)
from proxyless_jax.space.networks.chain import ChainBuilder
from proxyless_jax.space.networks.tree import Block, Tree
from proxyless_jax.space.ops.common import (
  AvgPool,
  Identity,
  MaxPool,
  Norm,
  PlainConv,
)
from proxyless_jax.space.ops.tree import DILATION, NormConv, NormSepConv

ORDER = ORDERS[1]
IMAGE_SIZE = 32
POOLS = {"max": MaxPool, "avg": AvgPool}


def pyramid_tree_net(
  data: Fields,
  *,
  image_size: Size | None,
  channels: int | None,
  classes: int | None,
) -> Tree:
  """The tree network: see `network_from_net_config`; named as in the zoo.

  The rates of dropping paths and cells must be 0: the authors' code scales by
  them in evaluation too.
  """
  norms = batch_norms(data, epsilon=1e-5)
  data.only("cell_drop_rate", 0)
  data.get("cell_drop_scheme")  # Of the rate, which is 0.
  # Fields of all nodes below a block's cell, in place of their own.
  common = data.get("tree_node_config", {})
  data.expect(isinstance(common, dict), "tree_node_config", "an object")
  blocks = data.inner_list("blocks")
  expected = "a TransitionBlock, ResidualTreeBlocks, a TransitionBlock"
  data.expect(len(blocks) > 2, "blocks", expected)
  chain, before = _start(blocks[0], image_size, channels, norms.epsilon)
  trees = tuple(
    _BlockReader(f"block{i:02d}", chain, norms.epsilon, common).read(fields)
    for i, fields in enumerate(blocks[1:-1], 1)
  )
  norm = _end(chain, blocks[-1], norms.epsilon, image_size is not None)
  after = norm, classifier(chain, data.inner("classifier"), classes)
  data.done()
  return Tree(before, trees, after, norms.momentum)


def _transition(fields: Fields, *kinds: str) -> list[Fields]:
  """The layers of a TransitionBlock."""
  kind(fields, "TransitionBlock")
  layers = fields.inner_list("layers")
  expected = f"{len(kinds)} of them: {', '.join(kinds)}"
  fields.expect(len(layers) == len(kinds), "layers", expected)
  fields.done()
  for layer, one in zip(layers, kinds):
    kind(layer, one)
  return layers


def _start(
  fields: Fields, image_size: Size | None, channels: int | None, epsilon: float
) -> tuple[ChainBuilder, tuple[Edge, Edge]]:
  """A convolution alone, then a batch norm."""
  conv, norm = _transition(fields, "ConvLayer", "IdentityLayer")
  plain(conv, ORDER, norm=False, acts=(None,))
  own, width = conv.channels("in_channels"), conv.channels("out_channels")
  chain = ChainBuilder(
    own if channels is None else channels,
    IMAGE_SIZE if image_size is None else image_size,
  )
  kernel, stride = conv.odd("kernel_size", 3), conv.whole("stride", 1)
  conv.only("groups", 1)
  end_of_conv(conv)
  stem = chain.add("stem", (PlainConv(kernel),), width, stride)
  activation = plain(norm, ORDER, norm=True, acts=(None, "relu"))
  unchanged(norm, width)
  op = Norm(activation == "relu", epsilon)
  return chain, (stem, chain.add("stem_norm", (op,), width))


def _end(
  chain: ChainBuilder, fields: Fields, epsilon: float, any_size: bool
) -> Edge:
  """Batch norm, activation, and the average of the last map.

  Args:
    chain: chain to add the norm to; the average belongs to the classifier.
    fields: fields of a TransitionBlock.
    epsilon: epsilon of the batch norm.
    any_size: whether the last map may have another size than in the file.
  """
  (pool,) = _transition(fields, "PoolingLayer")
  activation = plain(pool, ORDER, norm=True, acts=("relu", None))
  pool.only("pool_type", "avg", absent=None)
  kernel = pool.whole("kernel_size", 2)
  pool.only("stride", kernel, absent=2)
  expected = f"{chain.size}, the last map of images of {IMAGE_SIZE} pixels"
  expected += ": give the image_size that the file is for"
  pool.expect(any_size or kernel == chain.size, "kernel_size", expected)
  unchanged(pool, chain.features)
  op = Norm(activation == "relu", epsilon)
  return chain.add("last_norm", (op,), chain.features)


@dataclasses.dataclass(frozen=True)
class _BlockReader:
  """Reads a ResidualTreeBlock.

  Attributes:
    name: name of the block.
    chain: chain that it is added to.
    epsilon: epsilon of its batch norms.
    common: fields of all nodes of the trees, in place of their own.
  """

  name: str
  chain: ChainBuilder
  epsilon: float
  common: dict[str, Any]

  def read(self, fields: Fields) -> Block:
    """The block that these fields describe."""
    kind(fields, "ResidualTreeBlock")
    fields.only("cell_drop_rate", 0)
    fields.only("final_bn", True, absent=None)
    first = self._conv("in", fields.inner("in_bottle"))
    cell = fields.inner("cell")
    layers, nodes = _node(cell, split=None, merge=None)
    cell.expect(len(layers) == len(nodes) == 1, "edges", "one, above one node")
    conv = self._conv("conv", layers[0], strided=True)
    root = nodes[0].overridden(self.common)
    halves = self._halves(root)
    edges, branches = self._edges(root, halves)
    norms = tuple(
      self._keep(f"norm{i}", Norm(False, self.epsilon))
      for i in range(len(halves))
    )
    last = self._conv("out", fields.inner("out_bottle"))
    end = self._keep("final_norm", Norm(False, self.epsilon))
    _shortcut(fields.inner("shortcut"), first.features_in, conv.stride)
    fields.done()
    return Block(first, conv, edges, norms, last, end, branches)

  def _conv(self, name: str, fields: Fields, strided: bool = False) -> Edge:
    kind(fields, "ConvLayer")
    activation = plain(fields, ORDER, norm=True, acts=("relu", None))
    fields.channels("in_channels", self.chain.features)
    width = fields.channels("out_channels")
    kernel, groups = fields.odd("kernel_size", 3), fields.whole("groups", 1)
    shuffle = fields.only("has_shuffle", False, True) and groups > 1
    stride = fields.whole("stride", 1)
    fields.expect(strided or stride == 1, "stride", "1: the cell may have more")
    end_of_conv(fields)
    op = NormConv(kernel, activation == "relu", groups, shuffle, self.epsilon)
    return self.chain.add(f"{self.name}_{name}", (op,), width, stride)

  def _keep(self, name: str, op: Op) -> Edge:
    return self.chain.add(f"{self.name}_{name}", (op,), self.chain.features)

  def _halves(self, root: Fields) -> list[Fields]:
    """The tree of each part of the channels; the chain continues with one."""
    root.channels("in_channels", self.chain.features)
    width = self.chain.features = root.channels("out_channels")
    layers, halves = _node(root, split="split", branch_norms=True)
    root.expect(halves, "child_nodes", "a node for each part of the channels")
    for layer in layers:
      kind(layer, "IdentityLayer")
      identity(layer, width)
    return halves

  def _edges(
    self, root: Fields, halves: list[Fields]
  ) -> tuple[tuple[Edge, ...], int]:
    """The trees' edges, level by level, and how many lie below each node."""
    edges, branches = [], len(halves[0].inner_list("edges"))
    nodes = [(str(i), half) for i, half in enumerate(halves)]
    while nodes:
      below: list[tuple[str, Fields]] = []
      for path, node in nodes:
        layers, children = self._tree_node(node)
        expected = f"{branches}, as at every node of the block"
        node.expect(len(layers) == branches, "edges", expected)
        paths = [f"{path}_{i}" for i in range(branches)]
        edges += [
          self._keep(f"edge{path}", _tree_op(layer, self.chain, self.epsilon))
          for path, layer in zip(paths, layers)
        ]
        below += zip(paths, children)
      whole = len(below) in (0, branches * len(nodes))
      root.expect(whole, "child_nodes", "trees of one depth")
      nodes = below
    return tuple(edges), branches

  def _tree_node(self, node: Fields) -> tuple[list[Fields], list[Fields]]:
    node = node.overridden({**self.common, "has_branch_bn": False})
    node.channels("in_channels", self.chain.features)
    node.channels("out_channels", self.chain.features)
    return _node(node, split="copy")


def _node(
  fields: Fields,
  *,
  split: str | None,
  merge: str | None = "add",
  branch_norms: bool = False,
) -> tuple[list[Fields], list[Fields]]:
  """The layers of a TreeNode's edges, and the nodes below all or none."""
  fields.only("name", "TreeNode")
  fields.channels("in_channels")
  fields.channels("out_channels")
  fields.only("split_type", split, absent="copy")
  fields.only("merge_type", merge, absent="add")
  fields.only("has_branch_bn", branch_norms, absent=False)
  fields.only("path_drop_rate", 0)
  layers, nodes = fields.inner_list("edges"), fields.get("child_nodes")
  expected = f"{len(layers)} nodes, or as many nulls"
  alike = isinstance(nodes, list) and len(nodes) == len(layers) > 0
  nulls = alike and all(node is None for node in nodes)
  fields.expect(nulls or (alike and None not in nodes), "child_nodes", expected)
  fields.done()
  return layers, [] if nulls else fields.inner_list("child_nodes")


def _tree_op(fields: Fields, chain: ChainBuilder, epsilon: float) -> Op:
  """The operation of an edge of a tree."""
  layer = kind(fields, "DepthConvLayer", "PoolingLayer", "IdentityLayer")
  if layer == "IdentityLayer":
    identity(fields, chain.features)
    return Identity()
  if layer == "PoolingLayer":
    plain(fields, ORDER, norm=False, acts=(None,))
    pool = POOLS[fields.only("pool_type", *POOLS, absent=None)]
    kernel = fields.odd("kernel_size", 2)
    fields.only("stride", 1, absent=2)
    unchanged(fields, chain.features)
    return pool(kernel)
  plain(fields, ORDER, norm=True, acts=("relu",))
  fields.channels("in_channels", chain.features)
  fields.channels("out_channels", chain.features)
  kernel = fields.odd("kernel_size", 3)
  dilated = fields.get("dilation") == DILATION
  fields.only("stride", 1)
  fields.only("groups", 1)
  end_of_conv(fields, dilations=(1, DILATION))
  return NormSepConv(kernel, dilated, epsilon)


def _shortcut(fields: Fields, features: int, stride: int) -> None:
  """An identity; where the block has a stride, an average over it."""
  if stride == 1:
    kind(fields, "IdentityLayer")
    identity(fields, features)
    return
  kind(fields, "PoolingLayer")
  plain(fields, ORDER, norm=False, acts=(None,))
  fields.only("pool_type", "avg", absent=None)
  fields.only("kernel_size", stride, absent=2)
  fields.only("stride", stride, absent=2)
  unchanged(fields, features)
