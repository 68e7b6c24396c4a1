"""The module of the ResNets' basic block."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax

from proxyless_jax.nn.layers.batch_norm import BatchNorm
from proxyless_jax.nn.layers.linear import Conv
from proxyless_jax.nn.ops.base import make
from proxyless_jax.space import BasicBlock, Edge


class BasicBlockModule(nn.Module):
  """relu(F(x) + shortcut(x)): see `BasicBlock`."""

  op: BasicBlock
  edge: Edge
  bn_momentum: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    norm = functools.partial(BatchNorm, momentum=self.bn_momentum, epsilon=1e-5)
    features, stride = self.edge.features_out, self.edge.stride
    y = Conv(features, 3, stride, name="conv1")(x)
    y = norm("relu", name="bn1")(y, train)
    y = Conv(features, 3, 1, name="conv2")(y)
    y = norm(name="bn2")(y, train)
    if self.op.projects(self.edge):
      x = Conv(features, 1, stride, name="shortcut")(x)
      x = norm(name="shortcut_bn")(x, train)
    return jax.nn.relu(x + y)


@make.register
def _(op: BasicBlock, edge, *, name, bn_momentum, dropout):
  del dropout
  return BasicBlockModule(op, edge, bn_momentum, name=name)
