"""The module of ShuffleNetV2's unit."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from proxyless_jax.nn.layers.batch_norm import BatchNorm
from proxyless_jax.nn.layers.channels import channel_shuffle
from proxyless_jax.nn.layers.declare import he_fan_out
from proxyless_jax.nn.layers.depthwise import depthwise_conv
from proxyless_jax.nn.layers.linear import Conv1x1
from proxyless_jax.nn.ops.base import make
from proxyless_jax.space import Edge, ShuffleUnit


class ShuffleUnitModule(nn.Module):
  """Two branches, concatenated and shuffled: see `ShuffleUnit`."""

  op: ShuffleUnit
  edge: Edge
  bn_momentum: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    if self.edge.stride == 1:
      first, second = jnp.split(x, 2, axis=-1)
    else:
      first = self._depthwise(x, "first_depthwise", train)
      first = self._pointwise(first, "first_project", train)
      second = x
    second = self._pointwise(second, "second_expand", train)
    second = self._depthwise(second, "second_depthwise", train)
    second = self._pointwise(second, "second_project", train)
    return channel_shuffle(jnp.concatenate((first, second), -1), 2)

  def _pointwise(self, x, name: str, train: bool):
    x = Conv1x1(self.edge.features_out // 2, name=name)(x)
    return self._norm("relu", name=f"{name}_bn")(x, train)

  def _depthwise(self, x, name: str, train: bool):
    shape = (self.op.kernel, self.op.kernel, 1, x.shape[-1])
    kernel = self.param(name, he_fan_out, shape).astype(x.dtype)
    x = depthwise_conv(x, kernel, self.edge.stride, train=train)
    return self._norm("linear", name=f"{name}_bn")(x, train)

  @property
  def _norm(self):
    return functools.partial(BatchNorm, momentum=self.bn_momentum, epsilon=1e-5)


@make.register
def _(op: ShuffleUnit, edge, *, name, bn_momentum, dropout):
  del dropout
  return ShuffleUnitModule(op, edge, bn_momentum, name=name)
