"""Files of the authors' form, `net.config`, made of our networks."""

import types

import pytest

from proxyless_jax.space import (
  AvgPool,
  ConvBN,
  Identity,
  MaxPool,
  NormConv,
  NormSepConv,
  Zero,
)


def plain(name, inputs, outputs, order="bn_act_weight", **fields):
  """A layer of maps, by default without batch norm and activation."""
  return {
    "name": name,
    "in_channels": inputs,
    "out_channels": outputs,
    "use_bn": False,
    "act_func": None,
    "dropout_rate": 0,
    "ops_order": order,
    **fields,
  }


def conv(inputs, outputs, kernel, stride=1, order="bn_act_weight", **fields):
  size = {"kernel_size": kernel, "stride": stride}
  more = {"dilation": 1, "groups": 1, "bias": False, "has_shuffle": False}
  name = fields.pop("name", "ConvLayer")
  return plain(name, inputs, outputs, order, **size, **more, **fields)


def linear(inputs, outputs):
  return {
    "name": "LinearLayer",
    "in_features": inputs,
    "out_features": outputs,
    "bias": True,
    "use_bn": False,
    "act_func": None,
    "dropout_rate": 0,
    "ops_order": "weight_bn_act",
  }


def of_chain(network, **fields):
  """The file of a chain, with a head or without one."""
  stem, *blocks, last = network.layers
  heads = [blocks.pop()] if isinstance(blocks[-1].op, ConvBN) else []
  first, *mix = (
    conv(
      *(edge.features_in, edge.features_out, edge.op.kernel, edge.stride),
      order="weight_bn_act",
      use_bn=True,
      act_func=edge.op.activation,
    )
    for edge in (stem, *heads)
  )
  return {
    "name": "ProxylessNASNets",
    "first_conv": first,
    "feature_mix_layer": mix[0] if mix else None,
    "classifier": linear(last.features_in, last.features_out),
    "blocks": [_block(edge) for edge in blocks],
    **fields,
  }


def _block(edge):
  shortcut = None
  if edge.shortcut:
    width = edge.features_in
    shortcut = plain("IdentityLayer", width, width, "weight_bn_act")
  inner = {"name": "ZeroLayer", "stride": 1}
  if edge.op != Zero():
    inner = {
      "name": "MBInvertedConvLayer",
      "in_channels": edge.features_in,
      "out_channels": edge.features_out,
      "kernel_size": edge.op.kernel,
      "stride": edge.stride,
      "expand_ratio": float(edge.op.expand),
    }
  return {
    "name": "MobileInvertedResidualBlock",
    "mobile_inverted_conv": inner,
    "shortcut": shortcut,
  }


def of_tree(network, **fields):
  """The file of a tree network."""
  (stem, _), (norm, last) = network.before, network.after
  width = stem.features_out
  start = [
    conv(stem.features_in, width, stem.op.kernel, stem.stride),
    plain("IdentityLayer", width, width, use_bn=True),
  ]
  size, width = norm.size, norm.features_in
  end = pool("avg", size, width, size, use_bn=True, act_func="relu")
  trees = [_tree_block(block) for block in network.blocks]
  return {
    "name": "PyramidTreeNet",
    "classifier": linear(last.features_in, last.features_out),
    "blocks": [
      {"name": "TransitionBlock", "layers": start},
      *trees,
      {"name": "TransitionBlock", "layers": [end]},
    ],
    **fields,
  }


def pool(kind, kernel, width, stride=1, **fields):
  more = {"pool_type": kind, "kernel_size": kernel, "stride": stride}
  return plain("PoolingLayer", width, width, **more, **fields)


def _tree_block(block):
  features, width = block.in_bottleneck.features_in, block.edges[0].features_in
  stride, halves = block.conv.stride, len(block.branch_norms)
  shortcut = plain("IdentityLayer", features, features)
  if stride > 1:
    shortcut = pool("avg", stride, features, stride)
  root = node(
    halves * width,
    width,
    [plain("IdentityLayer", width, width) for _ in range(halves)],
    [_tree(block, 0, half) for half in range(halves)],
    split_type="split",
    has_branch_bn=True,
  )
  cell = node(
    width,
    width,
    [_norm_conv(block.conv)],
    [root],
    split_type=None,
    merge_type=None,
  )
  return {
    "name": "ResidualTreeBlock",
    "cell_drop_rate": 0.0,
    "final_bn": True,
    "shortcut": shortcut,
    "in_bottle": _norm_conv(block.in_bottleneck),
    "out_bottle": _norm_conv(block.out_bottleneck),
    "cell": cell,
  }


def node(inputs, outputs, edges, below, **fields):
  return {
    "name": "TreeNode",
    "in_channels": inputs,
    "out_channels": outputs,
    "split_type": "copy",
    "merge_type": "add",
    "has_branch_bn": False,
    "path_drop_rate": 0,
    "edges": edges,
    "child_nodes": below,
    **fields,
  }


def _tree(block, depth, position):
  """The node above some edges of a level, by its position in its own."""
  if depth == len(block.levels):
    return None
  width, count = block.edges[0].features_in, block.branches
  positions = range(position * count, (position + 1) * count)
  edges = [_tree_layer(block.levels[depth][i]) for i in positions]
  below = [_tree(block, depth + 1, i) for i in positions]
  return node(width, width, edges, below)


def _tree_layer(edge):
  op, width = edge.op, edge.features_in
  if isinstance(op, Identity):
    return plain("IdentityLayer", width, width)
  if isinstance(op, MaxPool | AvgPool):
    return pool("max" if isinstance(op, MaxPool) else "avg", op.kernel, width)
  assert isinstance(op, NormSepConv)
  layer = conv(width, width, op.kernel, name="DepthConvLayer", use_bn=True)
  return {**layer, "act_func": "relu", "dilation": op.dilation}


def _norm_conv(edge):
  op = edge.op
  assert isinstance(op, NormConv)
  layer = conv(
    *(edge.features_in, edge.features_out, op.kernel, edge.stride), use_bn=True
  )
  more = {"groups": op.groups, "has_shuffle": op.shuffle}
  return {**layer, **more, "act_func": "relu" if op.relu else None}


@pytest.fixture(scope="session")
def net_config():
  """The functions that make files, by name."""
  return types.SimpleNamespace(of_chain=of_chain, of_tree=of_tree)
