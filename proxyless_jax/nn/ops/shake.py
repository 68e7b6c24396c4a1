"""Shake-Shake's block, and the rule that it shares with ShakeDrop.

In training, the output of a residual branch is multiplied by one random number
in the forward pass, and its gradient by another one in the backward pass.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from proxyless_jax.nn.layers.batch_norm import BatchNorm
from proxyless_jax.nn.layers.dropout import dropout_key
from proxyless_jax.nn.layers.linear import Conv, Conv1x1
from proxyless_jax.nn.ops.base import make
from proxyless_jax.parallel.collectives import per_example
from proxyless_jax.space import Edge, ShakeBlock


@jax.custom_vjp
def shake(x: jax.Array, forward: jax.Array, backward: jax.Array) -> jax.Array:
  """forward * x, with the gradient backward * dy.

  Args:
    x: f[b, h, w, c].
    forward, backward: f32[] or f32[b, 1, 1, 1], which get no gradient.

  Returns:
    f[b, h, w, c] of x's type.
  """
  del backward
  return (forward * x).astype(x.dtype)


def _shake_forward(x, forward, backward):
  return shake(x, forward, backward), backward


def _shake_backward(backward, dy):
  return (backward * dy).astype(dy.dtype), None, None


shake.defvjp(_shake_forward, _shake_backward)


def shake_shake(key: jax.Array, one: jax.Array, other: jax.Array) -> jax.Array:
  """a * one + (1 - a) * other; b instead of a in the backward pass.

  Gastaldi, 2017, "Shake-Shake-Image": a and b are uniform in [0, 1], drawn for
  each example. The mean over draws is that of the two branches.

  Args:
    key: PRNG key.
    one, other: f[b, h, w, c], outputs of the residual branches.

  Returns:
    f[b, h, w, c].
  """
  # `per_example` splits the leading axis among devices: examples come first.
  drawn = per_example(
    lambda n: jnp.moveaxis(
      jax.random.uniform(key, (2, n, 1, 1, 1), jnp.float32), 1, 0
    ),
    one.shape[0],
  )
  forward, backward = drawn[:, 0], drawn[:, 1]
  two = shake(other, 1.0 - forward, 1.0 - backward)
  return shake(one, forward, backward) + two


class ShakeBranch(nn.Module):
  """3x3 convolution, norm, ReLU, 3x3 convolution, norm, of a ReLU's output."""

  edge: Edge
  bn_momentum: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    norm = functools.partial(BatchNorm, momentum=self.bn_momentum, epsilon=1e-5)
    features = self.edge.features_out
    x = Conv(features, 3, self.edge.stride, name="conv1")(x)
    x = norm("relu", name="bn1")(x, train)
    x = Conv(features, 3, 1, name="conv2")(x)
    return norm(name="bn2")(x, train)


class ShiftedShortcut(nn.Module):
  """Two 1x1 convolutions side by side, of an image and of it shifted.

  At stride 2 each sees pixels that the other does not. The shift, here to the
  right and down by one, is that of Gastaldi's code.
  """

  edge: Edge
  bn_momentum: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    step = self.edge.stride
    shifted = jnp.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0)))[:, :-1, :-1]
    half = self.edge.features_out // 2
    one = Conv1x1(half, name="conv1")(x[:, ::step, ::step])
    other = Conv1x1(self.edge.features_out - half, name="conv2")(
      shifted[:, ::step, ::step]
    )
    norm = BatchNorm("linear", self.bn_momentum, 1e-5, name="bn")
    return norm(jnp.concatenate([one, other], -1), train)


class ShakeBlockModule(nn.Module):
  """Two branches, mixed at random in training and evenly in evaluation."""

  edge: Edge
  bn_momentum: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    # The branches see a ReLU's output; the sum below has none of its own.
    active = nn.relu(x)
    options = self.edge, self.bn_momentum
    one = ShakeBranch(*options, name="branch1")(active, train)
    other = ShakeBranch(*options, name="branch2")(active, train)
    if self.edge.features_in != self.edge.features_out:
      x = ShiftedShortcut(*options, name="shortcut")(active, train)
    if train:
      return x + shake_shake(dropout_key(self), one, other)
    return x + 0.5 * (one + other)


@make.register
def _(op: ShakeBlock, edge, *, name, bn_momentum, dropout):
  del op, dropout
  return ShakeBlockModule(edge, bn_momentum, name=name)
