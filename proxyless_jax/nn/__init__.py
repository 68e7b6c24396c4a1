"""HOW it computes: Linen modules and array functions."""

# They register their operations.
from proxyless_jax.nn import (
  cell_ops,
  common,
  dense,
  mobile,
  path_level,
  pyramid,
  resnet,
  shake,
  shuffle,
  tree,
  tree_ops,
)
from proxyless_jax.nn.bank import banks, inherit
from proxyless_jax.nn.batch_norm import BatchNorm
from proxyless_jax.nn.build import build
from proxyless_jax.nn.depthwise import depthwise_conv
from proxyless_jax.nn.initialise import init
from proxyless_jax.nn.make import make
from proxyless_jax.nn.mixed import EdgeGates, mixed_edges
from proxyless_jax.nn.wiring import Graph, Line
