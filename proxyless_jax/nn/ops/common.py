"""The modules of operations that many families have."""

from __future__ import annotations

import flax.linen as nn
import jax

from proxyless_jax.nn.layers.batch_norm import BatchNorm
from proxyless_jax.nn.layers.linear import Conv
from proxyless_jax.nn.layers.pooling import avg_pool, max_pool
from proxyless_jax.nn.ops.base import make
from proxyless_jax.space import (
  AvgPool,
  Edge,
  Identity,
  MaxPool,
  Norm,
  PlainConv,
  Relu,
)


class PoolModule(nn.Module):
  """Pooling at the edge's stride; padding never counts."""

  op: MaxPool | AvgPool
  edge: Edge

  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    del train
    pool = max_pool if isinstance(self.op, MaxPool) else avg_pool
    return pool(x, self.op.kernel, self.edge.stride)


@make.register(MaxPool)
@make.register(AvgPool)
def _(op, edge, *, name, bn_momentum, dropout):
  del bn_momentum, dropout
  return PoolModule(op, edge, name=name)


class IdentityModule(nn.Module):
  """Returns its input."""

  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    del train
    return x


@make.register
def _(op: Identity, edge, *, name, bn_momentum, dropout):
  del op, edge, bn_momentum, dropout
  return IdentityModule(name=name)


class ReluModule(nn.Module):
  """max(x, 0)."""

  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    del train
    return nn.relu(x)


@make.register
def _(op: Relu, edge, *, name, bn_momentum, dropout):
  del op, edge, bn_momentum, dropout
  return ReluModule(name=name)


class PlainConvModule(nn.Module):
  """kxk convolution alone."""

  op: PlainConv
  edge: Edge

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    del train
    sizes = self.edge.features_out, self.op.kernel, self.edge.stride
    return Conv(*sizes, name="conv")(x)


@make.register
def _(op: PlainConv, edge, *, name, bn_momentum, dropout):
  del bn_momentum, dropout
  return PlainConvModule(op, edge, name=name)


class NormModule(nn.Module):
  """Batch norm, then ReLU where the operation has one."""

  op: Norm
  bn_momentum: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    activation = "relu" if self.op.relu else "linear"
    norm = BatchNorm(activation, self.bn_momentum, self.op.epsilon, name="bn")
    return norm(x, train)


@make.register
def _(op: Norm, edge, *, name, bn_momentum, dropout):
  del edge, dropout
  return NormModule(op, bn_momentum, name=name)
