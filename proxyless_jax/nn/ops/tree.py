"""The modules of the operations of PyramidNets with trees.

Batch norm and activation come before the weights.
"""

from __future__ import annotations

import flax.linen as nn
import jax

from proxyless_jax.nn.layers.batch_norm import BatchNorm
from proxyless_jax.nn.layers.channels import channel_shuffle
from proxyless_jax.nn.layers.linear import (
  Conv,
  Conv1x1,
  depthwise,
)
from proxyless_jax.nn.ops.base import make
from proxyless_jax.space import Edge, NormConv, NormSepConv


class NormConvModule(nn.Module):
  """Batch norm, convolution; a ReLU between and a shuffle last are optional."""

  op: NormConv
  edge: Edge
  bn_momentum: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    activation = "relu" if self.op.relu else "linear"
    norm = activation, self.bn_momentum, self.op.epsilon
    x = BatchNorm(*norm, name="bn")(x, train)
    kernel, stride, groups = self.op.kernel, self.edge.stride, self.op.groups
    if kernel == stride == groups == 1:
      return Conv1x1(self.edge.features_out, name="conv")(x)
    sizes = self.edge.features_out, kernel, stride, groups
    x = Conv(*sizes, name="conv")(x)
    return channel_shuffle(x, groups) if self.op.shuffle else x


@make.register
def _(op: NormConv, edge, *, name, bn_momentum, dropout):
  del dropout
  return NormConvModule(op, edge, bn_momentum, name=name)


class NormSepConvModule(nn.Module):
  """Batch norm, ReLU, depthwise convolution, 1x1 convolution.

  Attributes:
    ops: one operation; or a kernel group, several that differ in kernel size
      and dilation, of which a call runs `ops[member]`: see
      `proxyless_jax.nn.supernet.kernel_sharing`.
    edge: edge whose widths, stride and size it has.
    bn_momentum: momentum of the running batch-norm statistics.
  """

  ops: tuple[NormSepConv, ...]
  edge: Edge
  bn_momentum: float

  @nn.compact
  def __call__(
    self, x: jax.Array, train: bool, member: jax.Array | None = None
  ) -> jax.Array:
    norm = "relu", self.bn_momentum, self.ops[0].epsilon
    bn = BatchNorm(*norm, name="bn")
    # In training, the depthwise layer normalises what it reads.
    normed = (bn.later if train else bn)(x, train)
    forms = tuple((op.kernel, op.dilation) for op in self.ops)
    x = depthwise(self, normed, forms, self.edge.stride, train, member)
    return Conv1x1(self.edge.features_out, name="pointwise")(x)


@make.register
def _(op: NormSepConv, edge, *, name, bn_momentum, dropout):
  del dropout
  return NormSepConvModule((op,), edge, bn_momentum, name=name)
