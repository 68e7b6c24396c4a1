"""Functions that move, pad or drop channels."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from proxyless_jax.nn.layers.pooling import average_cells


def channel_shuffle(x: jax.Array, groups: int) -> jax.Array:
  """Interleaves groups of channels.

  Channel j of group i goes to position j * groups + i: Zhang et al.,
  ShuffleNet, CVPR 2018, section 3.1.

  Args:
    x: f[b, h, w, c].
    groups: number of groups, a divisor of c.

  Returns:
    f[b, h, w, c].
  """
  shape = x.shape
  x = x.reshape(*shape[:-1], groups, shape[-1] // groups)
  return jnp.swapaxes(x, -1, -2).reshape(shape)


def fit_channels(x: jax.Array, features: int) -> jax.Array:
  """Appends channels of zeros, or drops the last channels.

  Args:
    x: f[b, h, w, c].
    features: number of channels of the result.

  Returns:
    f[b, h, w, features].
  """
  lacking = features - x.shape[-1]
  if lacking > 0:
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, lacking)))
  return x[..., :features]


def pooled_shortcut(x: jax.Array, stride: int, features: int) -> jax.Array:
  """A shortcut without parameters: pools, then appends channels of zeros.

  Han, Kim and Kim, CVPR 2017, "Deep Pyramidal Residual Networks", section 3.2.

  Args:
    x: f[b, h, w, c].
    stride: stride of the residual branch.
    features: number of channels of the residual branch's output.

  Returns:
    f[b, ceil(h / stride), ceil(w / stride), features].
  """
  return fit_channels(average_cells(x, stride), features)
