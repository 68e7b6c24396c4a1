"""The modules of the mobile networks' operations."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from proxyless_jax.nn.layers.batch_norm import BatchNorm, Unnormalised
from proxyless_jax.nn.layers.declare import constant, normal
from proxyless_jax.nn.layers.dropout import Dropout
from proxyless_jax.nn.layers.linear import Conv, Conv1x1, depthwise
from proxyless_jax.nn.ops.base import make
from proxyless_jax.space import Classifier, ConvBN, Edge, MBConv, Zero


class SqueezeExcite(nn.Module):
  """Scales channels by a function of their means: Hu et al., CVPR 2018.

  y = x * sigmoid(W2 relu(W1 mean(x) + b1) + b2), f[b, h, w, c] -> the same.

  Attributes:
    squeezed: number of channels between the two layers.
  """

  squeezed: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    # A mean over many pixels: in float32 whatever the compute dtype.
    means = jnp.mean(x, (1, 2), keepdims=True, dtype=jnp.float32)
    features = x.shape[-1]
    hidden = Conv1x1(self.squeezed, name="reduce")(means)
    bias = self.param("reduce_bias", constant(0.0), (self.squeezed,))
    scale = Conv1x1(features, name="widen")(jax.nn.relu(hidden + bias))
    scale += self.param("widen_bias", constant(0.0), (features,))
    return x * jax.nn.sigmoid(scale).astype(x.dtype)


class MBConvModule(nn.Module):
  """1x1 expansion, kxk depthwise, 1x1 projection, batch norm after each.

  Attributes:
    op: the operation.
    edge: edge whose widths, stride and size it has.
    bn_momentum: momentum of the running batch-norm statistics.
  """

  op: MBConv
  edge: Edge
  bn_momentum: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    op = self.op
    norm = functools.partial(
      BatchNorm, momentum=self.bn_momentum, epsilon=op.epsilon
    )
    hidden, activation = op.hidden(self.edge), op.activation
    wide: jax.Array | Unnormalised = x
    if op.expands:
      expanded = Conv1x1(hidden, name="expand")(x)
      bn = norm(activation, name="expand_bn")
      # In training, the depthwise layer normalises what it reads.
      wide = (bn.later if train else bn)(expanded, train)
    form = (op.kernel, 1)
    x = depthwise(self, wide, (form,), self.edge.stride, train)
    x = norm(activation, name="depthwise_bn")(x, train)
    if squeezed := op.squeezed(self.edge):
      x = SqueezeExcite(squeezed, name="excite")(x)
    x = Conv1x1(self.edge.features_out, name="project")(x)
    return norm(name="project_bn")(x, train)


@make.register
def _(op: MBConv, edge, *, name, bn_momentum, dropout):
  del dropout
  return MBConvModule(op, edge, bn_momentum, name=name)


class ConvBNModule(nn.Module):
  """kxk convolution, batch norm, activation."""

  op: ConvBN
  edge: Edge
  bn_momentum: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    # One matmul is faster than a convolution on CPU.
    if self.op.kernel == 1 and self.edge.stride == 1:
      x = Conv1x1(self.edge.features_out, name="conv")(x)
    else:
      sizes = self.edge.features_out, self.op.kernel, self.edge.stride
      x = Conv(*sizes, name="conv")(x)
    norm = self.op.activation, self.bn_momentum, self.op.epsilon
    return BatchNorm(*norm, name="bn")(x, train)


@make.register
def _(op: ConvBN, edge, *, name, bn_momentum, dropout):
  del dropout
  return ConvBNModule(op, edge, bn_momentum, name=name)


class ZeroModule(nn.Module):
  """Zeros of the output's shape."""

  edge: Edge

  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    del train
    return jnp.zeros((x.shape[0], *self.edge.shape_out), x.dtype)


@make.register
def _(op: Zero, edge, *, name, bn_momentum, dropout):
  del op, bn_momentum, dropout
  return ZeroModule(edge, name=name)


class ClassifierModule(nn.Module):
  """Average pooling, dropout, linear: f[b, h, w, c] -> f32[b, classes]."""

  classes: int
  dropout: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    # Mean, logits and loss are float32 or wider, whatever the compute dtype.
    x = jnp.mean(x.astype(jnp.promote_types(x.dtype, jnp.float32)), (1, 2))
    x = Dropout(self.dropout)(x, train)
    shape = (x.shape[-1], self.classes)
    kernel = self.param("kernel", normal(0.01), shape)
    bias = self.param("bias", constant(0.0), shape[1:])
    return x @ kernel + bias


@make.register
def _(op: Classifier, edge, *, name, bn_momentum, dropout):
  del op, bn_momentum
  return ClassifierModule(edge.features_out, dropout, name=name)
