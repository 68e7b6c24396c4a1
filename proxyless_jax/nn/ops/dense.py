"""The modules of DenseNet-BC's operations."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from proxyless_jax.nn.layers.batch_norm import BatchNorm
from proxyless_jax.nn.layers.linear import Conv, Conv1x1
from proxyless_jax.nn.layers.pooling import average_cells
from proxyless_jax.nn.ops.base import make
from proxyless_jax.space import DenseLayer, DenseTransition, Edge


class DenseLayerModule(nn.Module):
  """f[b, h, w, c] -> f[b, h, w, c + growth]: the input, then what is new."""

  op: DenseLayer
  edge: Edge
  bn_momentum: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    norm = functools.partial(BatchNorm, "relu", self.bn_momentum, 1e-5)
    growth = self.op.growth(self.edge)
    y = norm(name="reduce_bn")(x, train)
    y = Conv1x1(self.op.expand * growth, name="reduce")(y)
    y = norm(name="grow_bn")(y, train)
    y = Conv(growth, 3, 1, name="grow")(y)
    return jnp.concatenate([x, y], -1)


@make.register
def _(op: DenseLayer, edge, *, name, bn_momentum, dropout):
  del dropout
  return DenseLayerModule(op, edge, bn_momentum, name=name)


class DenseTransitionModule(nn.Module):
  """Batch norm, ReLU, 1x1 convolution, average pooling."""

  edge: Edge
  bn_momentum: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    x = BatchNorm("relu", self.bn_momentum, 1e-5, name="bn")(x, train)
    x = Conv1x1(self.edge.features_out, name="conv")(x)
    return average_cells(x, self.edge.stride)


@make.register
def _(op: DenseTransition, edge, *, name, bn_momentum, dropout):
  del op, dropout
  return DenseTransitionModule(edge, bn_momentum, name=name)
