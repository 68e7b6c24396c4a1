"""The modules of the operations of cells."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from proxyless_jax.nn.layers.batch_norm import BatchNorm
from proxyless_jax.nn.layers.linear import Conv, Conv1x1, depthwise
from proxyless_jax.nn.ops.base import make
from proxyless_jax.space import (
  BlockMaxPool,
  CellConv,
  Edge,
  FactorizedReduce,
  SepConv,
)


class CellConvModule(nn.Module):
  """ReLU where the operation has one, convolution, batch norm."""

  op: CellConv
  edge: Edge
  bn_momentum: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    features, stride = self.edge.features_out, self.edge.stride
    x = nn.relu(x) if self.op.relu else x
    if self.op.kernel == 1:
      # The matmul of a 1x1 convolution; a stride only leaves pixels out.
      x = Conv1x1(features, name="conv")(x[:, ::stride, ::stride])
    else:
      x = Conv(features, self.op.kernel, stride, name="conv")(x)
    norm = BatchNorm("linear", self.bn_momentum, self.op.epsilon, name="bn")
    return norm(x, train)


@make.register
def _(op: CellConv, edge, *, name, bn_momentum, dropout):
  del dropout
  return CellConvModule(op, edge, bn_momentum, name=name)


class SepConvModule(nn.Module):
  """ReLU, depthwise convolution, 1x1 convolution, batch norm."""

  op: SepConv
  edge: Edge
  bn_momentum: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    forms = ((self.op.kernel, self.op.dilation),)
    x = depthwise(self, nn.relu(x), forms, self.edge.stride, train)
    x = Conv1x1(self.edge.features_out, name="pointwise")(x)
    norm = BatchNorm("linear", self.bn_momentum, self.op.epsilon, name="bn")
    return norm(x, train)


@make.register
def _(op: SepConv, edge, *, name, bn_momentum, dropout):
  del dropout
  return SepConvModule(op, edge, bn_momentum, name=name)


class FactorizedReduceModule(nn.Module):
  """Two 1x1 convolutions of pixels (0, 0), (2, 2), ... and (1, 1), (3, 3)."""

  op: FactorizedReduce
  edge: Edge
  bn_momentum: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    half = self.edge.features_out // 2
    x = nn.relu(x) if self.op.relu else x
    h, w = x.shape[1:3]
    # The second of the last two pixels is outside where the size is odd.
    x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
    even = Conv1x1(half, name="even")(x[:, ::2, ::2])
    odd = Conv1x1(half, name="odd")(x[:, 1::2, 1::2])
    norm = BatchNorm("linear", self.bn_momentum, self.op.epsilon, name="bn")
    return norm(jnp.concatenate([even, odd], axis=-1), train)


@make.register
def _(op: FactorizedReduce, edge, *, name, bn_momentum, dropout):
  del dropout
  return FactorizedReduceModule(op, edge, bn_momentum, name=name)


class BlockMaxPoolModule(nn.Module):
  """The maximum of every 2x2 pixels."""

  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    del train
    h, w = x.shape[1:3]
    return nn.max_pool(x, (2, 2), (2, 2), ((0, h % 2), (0, w % 2)))


@make.register
def _(op: BlockMaxPool, edge, *, name, bn_momentum, dropout):
  del op, edge, bn_momentum, dropout
  return BlockMaxPoolModule(name=name)
