"""WHAT may be chosen: networks as frozen descriptions, without arrays."""

from proxyless_jax.space.edge import Edge, Op, named
from proxyless_jax.space.files import load_network, network_from_json
from proxyless_jax.space.networks.cells import Cell, CellNetwork, Path
from proxyless_jax.space.networks.chain import Chain
from proxyless_jax.space.networks.network import Network, macs, parameters
from proxyless_jax.space.networks.tree import Block, Tree
from proxyless_jax.space.ops.cell import (
  BlockMaxPool,
  CellConv,
  FactorizedReduce,
  SepConv,
)
from proxyless_jax.space.ops.common import (
  AvgPool,
  Identity,
  MaxPool,
  Norm,
  PlainConv,
  Relu,
)
from proxyless_jax.space.ops.dense import DenseLayer, DenseTransition
from proxyless_jax.space.ops.mobile import Classifier, ConvBN, MBConv, Zero
from proxyless_jax.space.ops.names import parse_op
from proxyless_jax.space.ops.path_level import TreeCellBlock
from proxyless_jax.space.ops.pyramid import PyramidBlock
from proxyless_jax.space.ops.resnet import BasicBlock
from proxyless_jax.space.ops.shake import ShakeBlock
from proxyless_jax.space.ops.shuffle import ShuffleUnit
from proxyless_jax.space.ops.tree import NormConv, NormSepConv
from proxyless_jax.space.spaces.mobile import mobile_space
from proxyless_jax.space.spaces.tree import tree_space
