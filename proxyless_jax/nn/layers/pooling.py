"""Pooling that is fast in both directions on every platform.

Windows of k x k with k // 2 pixels of padding on every side, which never count.
Outputs and gradients are sums or maxima over the k * k shifts of a map, which
XLA fuses into one loop: XLA:CPU's own gradients of windows (select-and-scatter)
are slow.

Where several pixels share a window's maximum, the first of them in reading
order gets the gradient, as in XLA's own rule.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def max_pool(x: jax.Array, kernel: int, stride: int) -> jax.Array:
  """Maxima of windows.

  Args:
    x: f[b, h, w, c].
    kernel: side of a window in pixels, odd.
    stride: step of the window in both spatial dimensions.

  Returns:
    f[b, ceil(h / stride), ceil(w / stride), c].
  """
  return functools.reduce(jnp.maximum, _windows(x, kernel, stride, -jnp.inf))


def _max_forward(x, kernel, stride):
  return max_pool(x, kernel, stride), x


def _max_backward(kernel, stride, x, dy):
  # The tap of each window that has the maximum, the first of equal ones.
  shifts = _windows(x, kernel, stride, -jnp.inf)
  best, first = shifts[0], jnp.zeros(dy.shape, jnp.uint8)
  for i, shift in enumerate(shifts[1:], 1):
    first = jnp.where(shift > best, jnp.uint8(i), first)
    best = jnp.maximum(best, shift)
  # A pixel gets the gradient of the windows whose `first` is its own tap there;
  # kernel**2 is no tap, and stands for a window that does not exist.
  sources = _transposed(first, x.shape, kernel, stride, kernel**2)
  shares = _transposed(dy, x.shape, kernel, stride, 0)
  terms = (
    jnp.where(source == i, share, 0)
    for i, (source, share) in enumerate(zip(sources, shares))
  )
  return (functools.reduce(jnp.add, terms),)


max_pool.defvjp(_max_forward, _max_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def avg_pool(x: jax.Array, kernel: int, stride: int) -> jax.Array:
  """Means of windows, over those of their pixels that lie in the map.

  Args:
    x: f[b, h, w, c].
    kernel: side of a window in pixels, odd.
    stride: step of the window in both spatial dimensions.

  Returns:
    f[b, ceil(h / stride), ceil(w / stride), c].
  """
  total = functools.reduce(jnp.add, _windows(x, kernel, stride, 0.0))
  return total * _shares(x, kernel, stride)


def _avg_forward(x, kernel, stride):
  # An empty array, for its shape.
  return avg_pool(x, kernel, stride), jnp.zeros((0, *x.shape[1:]), x.dtype)


def _avg_backward(kernel, stride, empty, dy):
  shape = (len(dy), *empty.shape[1:])
  dy = dy * _shares(empty, kernel, stride)
  return (functools.reduce(jnp.add, _transposed(dy, shape, kernel, stride, 0)),)


avg_pool.defvjp(_avg_forward, _avg_backward)


def average_cells(x: jax.Array, stride: int) -> jax.Array:
  """Means of cells of stride x stride pixels, which do not overlap.

  A cell that lies across the rim is averaged over the pixels that the map has.

  Args:
    x: f[b, h, w, c].
    stride: side of a cell.

  Returns:
    f[b, ceil(h / stride), ceil(w / stride), c].
  """
  window = (stride, stride)
  padding = tuple((0, -size % stride) for size in x.shape[1:3])
  whole = not any(end for _, end in padding)
  return nn.avg_pool(x, window, window, padding, count_include_pad=whole)


def _shares(x, kernel: int, stride: int):
  """One over the pixels of each window that lie in the map: f[1, y, x, 1]."""
  inside = []
  for size in x.shape[1:3]:
    start = np.arange(0, size, stride) - kernel // 2
    inside.append(np.minimum(start + kernel, size) - np.maximum(start, 0))
  shares = 1.0 / np.outer(*inside)
  return jnp.asarray(shares[None, :, :, None], x.dtype)


def _windows(x, kernel: int, stride: int, outside) -> list[jax.Array]:
  """For each tap of a window, in reading order, the pixels that it sees.

  Args:
    x: f[b, h, w, c].
    kernel, stride: side and step of the windows.
    outside: value of padding.

  Returns:
    k * k maps of the output's shape.
  """
  b, h, w, c = x.shape
  pad = (kernel // 2, kernel // 2, 0)
  padding = ((0, 0, 0), pad, pad, (0, 0, 0))
  padded = lax.pad(x, jnp.asarray(outside, x.dtype), padding)
  high, wide = (stride * ((size - 1) // stride) + 1 for size in (h, w))
  steps = (1, stride, stride, 1)
  return [
    lax.slice(padded, (0, i, j, 0), (b, i + high, j + wide, c), steps)
    for i in range(kernel)
    for j in range(kernel)
  ]


def _transposed(y, shape, kernel: int, stride: int, outside):
  """For each tap of a window, each pixel's value in the window that it taps.

  Args:
    y: [b, rows, cols, c], values of windows.
    shape: shape of the map.
    kernel, stride: side and step of the windows.
    outside: value where there is no such window.

  Returns:
    k * k maps of the map's shape, in the order of `_windows`.
  """
  b, h, w, c = shape
  pad, last = kernel // 2, kernel - 1
  spatial = [
    (pad, size + pad - (stride * (count - 1) + 1), stride - 1)
    for size, count in zip((h, w), y.shape[1:3])
  ]
  padding = ((0, 0, 0), *spatial, (0, 0, 0))
  padded = lax.pad(y, jnp.asarray(outside, y.dtype), padding)
  # Tap i of a window that begins at row r sees row r + i.
  starts = [(last - i, last - j) for i in range(kernel) for j in range(kernel)]
  return [
    lax.slice(padded, (0, i, j, 0), (b, i + h, j + w, c)) for i, j in starts
  ]
