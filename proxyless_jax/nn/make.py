"""`make`: from a candidate operation to the Linen module that computes it."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax.numpy as jnp

from proxyless_jax.nn.declare import constant, he_fan_out, normal
from proxyless_jax.nn.depthwise import depthwise_conv
from proxyless_jax.nn.layers import BatchNorm, Conv, Conv1x1
from proxyless_jax.nn.switch import switch
from proxyless_jax.space import Classifier, ConvBN, Edge, MBConv, Op, Zero


@functools.singledispatch
def make(
  op: Op, edge: Edge, *, name: str, bn_momentum: float, dropout: float
) -> nn.Module:
  """The module of `op` on `edge`, called as `module(x, train)`.

  f[b, size, size, features_in] -> f[b, size_out, size_out, features_out]. For
  an operation of your own, register a function with the same arguments:

      @pj.make.register
      def _(op: FusedConv, edge, *, name, bn_momentum, dropout):
        return FusedConvModule(op.kernel, edge.features_out, name=name)

  Its module may be made of any Linen layers with 'params' and 'batch_stats'.
  As a candidate it gets no random numbers, so it has no dropout of its own.

  Args:
    op: the operation.
    edge: where it stands: widths, stride, size.
    name: of the module, under which its parameters lie: pass it on.
    bn_momentum: of the running batch-norm statistics.
    dropout: rate before the classifier.

  Raises:
    TypeError: no module is registered for the operation's type.
  """
  raise TypeError(
    f"operation {op!r} has no module: register one with "
    f"@proxyless_jax.make.register for {type(op).__name__}"
  )


class MBConvModule(nn.Module):
  """1x1 expansion, kxk depthwise, 1x1 projection, batch norm after each.

  Attributes:
    ops: one operation; or several of the same expansion, of which `member`
      says which one to run, see `proxyless_jax.nn.family`.
    edge: where it stands.
    bn_momentum: of the running batch-norm statistics.
  """

  ops: tuple[MBConv, ...]
  edge: Edge
  bn_momentum: float

  @nn.compact
  def __call__(self, x, train: bool, member=None):
    norm = functools.partial(BatchNorm, momentum=self.bn_momentum)
    hidden = self.ops[0].hidden(self.edge)
    if self.ops[0].expand > 1:
      x = Conv1x1(hidden, name="expand")(x)
      x = norm(relu6=True, name="expand_bn")(x, train)
    x = self._depthwise(x, hidden, member)
    x = norm(relu6=True, name="depthwise_bn")(x, train)
    x = Conv1x1(self.edge.features_out, name="project")(x)
    return norm(name="project_bn")(x, train)

  def _depthwise(self, x, hidden: int, member):
    stride, kernels = self.edge.stride, [op.kernel for op in self.ops]
    if member is None:
      shape = (kernels[0], kernels[0], 1, hidden)
      kernel = self.param("depthwise", he_fan_out, shape)
      return depthwise_conv(x, kernel.astype(x.dtype), stride)

    def branch(k, x, vector):
      kernel = vector[: k * k * hidden].reshape(k, k, 1, hidden)
      return depthwise_conv(x, kernel, stride)

    vector = self.get_variable("params", "depthwise").astype(x.dtype)
    branches = tuple(functools.partial(branch, k) for k in kernels)
    return switch(branches, member, x, vector)


@make.register
def _(op: MBConv, edge, *, name, bn_momentum, dropout):
  del dropout
  return MBConvModule((op,), edge, bn_momentum, name=name)


class ConvBNModule(nn.Module):
  """kxk convolution, batch norm, ReLU6."""

  op: ConvBN
  edge: Edge
  bn_momentum: float

  @nn.compact
  def __call__(self, x, train: bool):
    if self.op.kernel == 1 and self.edge.stride == 1:
      x = Conv1x1(self.edge.features_out, name="conv")(x)
    else:
      sizes = self.edge.features_out, self.op.kernel, self.edge.stride
      x = Conv(*sizes, name="conv")(x)
    norm = BatchNorm(relu6=True, momentum=self.bn_momentum, name="bn")
    return norm(x, train)


@make.register
def _(op: ConvBN, edge, *, name, bn_momentum, dropout):
  del dropout
  return ConvBNModule(op, edge, bn_momentum, name=name)


class ZeroModule(nn.Module):
  """Zeros of the output's shape."""

  edge: Edge

  def __call__(self, x, train: bool):
    del train
    size, features = self.edge.size_out, self.edge.features_out
    return jnp.zeros((x.shape[0], size, size, features), x.dtype)


@make.register
def _(op: Zero, edge, *, name, bn_momentum, dropout):
  del op, bn_momentum, dropout
  return ZeroModule(edge, name=name)


class ClassifierModule(nn.Module):
  """Average pooling, dropout, linear: f[b, h, w, c] -> f32[b, classes]."""

  classes: int
  dropout: float

  @nn.compact
  def __call__(self, x, train: bool):
    x = jnp.mean(x.astype(jnp.promote_types(x.dtype, jnp.float32)), (1, 2))
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    shape = (x.shape[-1], self.classes)
    kernel = self.param("kernel", normal(0.01), shape)
    bias = self.param("bias", constant(0.0), shape[1:])
    return x @ kernel + bias


@make.register
def _(op: Classifier, edge, *, name, bn_momentum, dropout):
  del op, bn_momentum
  return ClassifierModule(edge.features_out, dropout, name=name)
