"""Convolutions with their parameters.

Parameters are float32, whatever the compute dtype. Padding is kernel // 2 on
each side at every stride, as in the released networks, not TensorFlow's SAME.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from proxyless_jax.nn.layers.batch_norm import Unnormalised
from proxyless_jax.nn.layers.conv import conv
from proxyless_jax.nn.layers.declare import he_fan_out
from proxyless_jax.nn.layers.norm_depthwise import conv_of, fuses
from proxyless_jax.nn.layers.switch import switch


class Conv1x1(nn.Module):
  """1x1 convolution without bias, as one matmul: 2 to 7 times faster on CPU.

  f[b, h, w, c] -> f[b, h, w, features].

  Attributes:
    features: number of output channels.
  """

  features: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (1, 1, x.shape[-1], self.features)
    return conv1x1(x, self.param("kernel", he_fan_out, shape)[0, 0])


def conv1x1(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """f[b, h, w, c] and a kernel f[c, features] -> f[b, h, w, features]."""
  y = x.reshape(-1, x.shape[-1]) @ kernel.astype(x.dtype)
  return y.reshape(*x.shape[:-1], kernel.shape[-1])


class Conv(nn.Module):
  """kxk convolution without bias: f[b, h, w, c] -> f[b, h', w', features].

  Attributes:
    features: number of output channels.
    kernel, stride: size and step of the window in both spatial dimensions.
    groups: number of groups of channels that see nothing of each other.
  """

  features: int
  kernel: int
  stride: int
  groups: int = 1

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    features_in = x.shape[-1] // self.groups
    shape = (self.kernel, self.kernel, features_in, self.features)
    kernel = self.param("kernel", he_fan_out, shape).astype(x.dtype)
    # XLA:CPU takes 7 times as long for a grouped convolution as for its parts.
    parts = zip(*(jnp.split(a, self.groups, -1) for a in (x, kernel)))
    return jnp.concatenate([conv(*part, self.stride) for part in parts], -1)


def depthwise(
  module: nn.Module,
  x: jax.Array | Unnormalised,
  forms: tuple[tuple[int, int], ...],
  stride: int,
  train: bool,
  member: jax.Array | None = None,
) -> jax.Array:
  """A depthwise convolution by a module's own parameter `depthwise`.

  Args:
    module: module that has the parameter, in a compact method of it.
    x: f[b, h, w, c]; or a map that is still to be normalised.
    forms: kernel size and dilation of each member of a kernel group
      (`proxyless_jax.nn.supernet.kernel_sharing`), or of one operation.
    stride: stride of both spatial dimensions.
    train: as for `depthwise_conv`.
    member: i32[], the form to run. The parameter is then a vector that begins
      with the member's kernel. None for the only one.
  """
  features = x.shape[-1]
  if member is None:
    ((size, dilation),) = forms
    kernel = module.param("depthwise", he_fan_out, (size, size, 1, features))
    return conv_of(x, kernel.astype(x.dtype), stride, dilation, train)

  if isinstance(x, Unnormalised) and not fuses(x):
    x = x.normalised()  # Here, since each member's branch would do it.

  def branch(
    form: tuple[int, int], x: jax.Array | Unnormalised, vector: jax.Array
  ) -> jax.Array:
    size, dilation = form
    kernel = vector[: size**2 * features].reshape(size, size, 1, features)
    return conv_of(x, kernel, stride, dilation, train)

  vector: jax.Array = module.get_variable("params", "depthwise")
  branches = tuple(functools.partial(branch, form) for form in forms)
  return switch(branches, member, x, vector.astype(x.dtype))
