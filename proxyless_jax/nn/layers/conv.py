"""Dense convolution whose gradients are fast on CPU inside loops too.

  out[b, y, x, o] = sum_{i, j, c} padded[b, s y + i, s x + j, c] k[i, j, c, o]

with half a kernel of zeros on every side at every stride s, as in the released
networks.

XLA:CPU calls a library for convolutions of images by kernels. It rewrites the
gradients of such convolutions to that form, but not those in the body of a
loop: there they run 20 times slower. So on CPU they are written out:

  input gradient    a convolution of images: by the kernel turned around
  kernel gradient   a matmul per tap: what it reads, times the gradient
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """Convolves; differentiable in reverse mode, in `x` and `kernel`.

  Args:
    x: f[b, h, w, c].
    kernel: f[k, k, c, o] of x's type, k odd.
    stride: step of the window.

  Returns:
    f[b, ceil(h / stride), ceil(w / stride), o].
  """
  pad = kernel.shape[0] // 2
  return _convolve(x, kernel, strides=stride, padding=(pad, pad))


def _forward(x, kernel, stride):
  return conv(x, kernel, stride), (x, kernel)


def _backward(stride, residuals, dy):
  # Two choices rather than one of a pair, so that XLA can drop either gradient.
  return tuple(
    lax.platform_dependent(
      *residuals,
      dy,
      cpu=functools.partial(own, stride=stride),
      default=functools.partial(_native_gradient, which, stride),
    )
    for which, own in enumerate((_input_gradient, _kernel_gradient))
  )


conv.defvjp(_forward, _backward)


def _convolve(x, kernel, *, strides=1, padding, dilation=1):
  return lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(strides, strides),
    padding=padding if isinstance(padding, list) else [padding] * 2,
    lhs_dilation=(dilation, dilation),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def _native_gradient(which: int, stride: int, x, kernel, dy):
  pad = kernel.shape[0] // 2
  native = functools.partial(_convolve, strides=stride, padding=(pad, pad))
  return jax.vjp(native, x, kernel)[1](dy)[which]


def _input_gradient(x, kernel, dy, stride):
  # The transposed convolution: dy with stride - 1 zeros between its pixels,
  # padded so that the output has x's size, by the kernel turned around.
  size, pad = kernel.shape[0], kernel.shape[0] // 2
  low = size - 1 - pad
  padding = [
    (low, length + size - 1 - low - (stride * (count - 1) + 1))
    for length, count in zip(x.shape[1:3], dy.shape[1:3])
  ]
  turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
  return _convolve(dy, turned, padding=padding, dilation=stride)


def _kernel_gradient(x, kernel, dy, stride):
  size, pad = kernel.shape[0], kernel.shape[0] // 2
  b, rows, cols, features = dy.shape
  # Along each axis, the windows of one tap cover `reach` pixels of x; the
  # padded map has as many for every tap.
  reach = [stride * (count - 1) + 1 for count in (rows, cols)]
  ends = (n + size - 1 - length - pad for n, length in zip(reach, x.shape[1:3]))
  spatial = [(pad, end, 0) for end in ends]
  padding = ((0, 0, 0), *spatial, (0, 0, 0))
  padded = lax.pad(x, jnp.zeros((), x.dtype), padding)
  window = (b, *reach, x.shape[-1])
  dy = dy.reshape(-1, features)

  def of_tap(tap: jax.Array) -> jax.Array:
    at = (0, tap // size, tap % size, 0)
    seen = lax.dynamic_slice(padded, at, window)[:, ::stride, ::stride]
    return seen.reshape(-1, x.shape[-1]).T @ dy

  # A loop: one program line compiles, not one for each of k * k taps.
  taps = lax.map(of_tap, jnp.arange(size * size))
  return taps.reshape(kernel.shape)
