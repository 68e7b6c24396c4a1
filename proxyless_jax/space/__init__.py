"""WHAT may be chosen: networks as frozen descriptions, without arrays."""

from proxyless_jax.space.edge import Edge, Op, named
from proxyless_jax.space.files import load_network, network_from_json
from proxyless_jax.space.networks.cells import Cell, CellNetwork, Path
from proxyless_jax.space.networks.chain import Chain
from proxyless_jax.space.networks.network import Network, macs, parameters
from proxyless_jax.space.networks.tree import Block, Tree
from proxyless_jax.space.ops import (
  AvgPool,
  BasicBlock,
  BlockMaxPool,
  CellConv,
  Classifier,
  ConvBN,
  DenseLayer,
  DenseTransition,
  FactorizedReduce,
  Identity,
  MaxPool,
  MBConv,
  Norm,
  NormConv,
  NormSepConv,
  PlainConv,
  PyramidBlock,
  Relu,
  SepConv,
  ShakeBlock,
  ShuffleUnit,
  TreeCellBlock,
  Zero,
)
from proxyless_jax.space.ops.names import parse_op
from proxyless_jax.space.spaces.mobile import mobile_space
from proxyless_jax.space.spaces.tree import tree_space
