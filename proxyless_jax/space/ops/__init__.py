"""Candidate operations: names, parameters and MACs, a file per family."""

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
from proxyless_jax.space.ops.path_level import TreeCellBlock
from proxyless_jax.space.ops.pyramid import PyramidBlock
from proxyless_jax.space.ops.resnet import BasicBlock
from proxyless_jax.space.ops.shake import ShakeBlock
from proxyless_jax.space.ops.shuffle import ShuffleUnit
from proxyless_jax.space.ops.tree import NormConv, NormSepConv
