"""The module of PyramidNet's block, with ShakeDrop where it has it."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from proxyless_jax.nn.layers.batch_norm import BatchNorm
from proxyless_jax.nn.layers.channels import pooled_shortcut
from proxyless_jax.nn.layers.dropout import dropout_key
from proxyless_jax.nn.layers.linear import Conv, Conv1x1
from proxyless_jax.nn.ops.base import make
from proxyless_jax.nn.ops.shake import shake
from proxyless_jax.parallel.collectives import per_example
from proxyless_jax.space import Edge, PyramidBlock


def shake_drop(key: jax.Array, y: jax.Array, survival: float) -> jax.Array:
  """y, or a * y with the gradient b * dy where the block is perturbed.

  Yamada, Iwamura, Akiba and Kise, IEEE Access 2019, equation 6: one decision
  for the block, a in [-1, 1] and b in [0, 1] for each example. The mean over
  draws is survival * y.

  Args:
    key: PRNG key.
    y: f[b, h, w, c], output of the residual branch.
    survival: probability that the block is left alone.

  Returns:
    f[b, h, w, c].
  """
  keys = dict(zip(("kept", "forward", "backward"), jax.random.split(key, 3)))
  # One decision for the block, so no number per example.
  kept = jax.random.bernoulli(keys["kept"], survival)

  def factors(name: str, low: float) -> jax.Array:
    return per_example(
      lambda n: jax.random.uniform(
        keys[name], (n, 1, 1, 1), jnp.float32, minval=low
      ),
      y.shape[0],
    )

  forward, backward = factors("forward", -1.0), factors("backward", 0.0)
  return shake(y, jnp.where(kept, 1.0, forward), jnp.where(kept, 1.0, backward))


class PyramidBlockModule(nn.Module):
  """Bottleneck beside a shortcut that pools and pads with zero channels."""

  op: PyramidBlock
  edge: Edge
  bn_momentum: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    y = self._shaken(self._residual(x, train), train)
    return pooled_shortcut(x, self.edge.stride, self.edge.features_out) + y

  def _residual(self, x, train: bool):
    norm = functools.partial(BatchNorm, momentum=self.bn_momentum, epsilon=1e-5)
    hidden = self.op.hidden(self.edge)
    x = norm(name="bn")(x, train)
    x = Conv1x1(hidden, name="reduce")(x)
    x = norm("relu", name="reduce_bn")(x, train)
    x = Conv(hidden, 3, self.edge.stride, name="conv")(x)
    x = norm("relu", name="conv_bn")(x, train)
    x = Conv1x1(self.edge.features_out, name="widen")(x)
    return norm(name="widen_bn")(x, train)

  def _shaken(self, y, train: bool):
    survival = float(self.op.survival)
    if survival == 1.0:
      return y
    # In evaluation, the mean over the draws of training.
    if train:
      return shake_drop(dropout_key(self), y, survival)
    return survival * y


@make.register
def _(op: PyramidBlock, edge, *, name, bn_momentum, dropout):
  del dropout
  return PyramidBlockModule(op, edge, bn_momentum, name=name)
