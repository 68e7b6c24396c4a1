"""Batch norm and depthwise convolution in one pass, on a CPU.

There a pass over a map costs as much as the arithmetic of a small kernel: the
kernels in C++ normalise what a convolution reads, and the normalised map is
nowhere in memory, in neither direction.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from proxyless_jax.nn import cpu_kernels
from proxyless_jax.nn.layers import depthwise
from proxyless_jax.nn.layers.batch_norm import (
  CEILINGS,
  Unnormalised,
  norm_gradients,
  normalise,
)


def fuses(x: jax.Array | Unnormalised) -> bool:
  """Whether `conv_of` normalises x without writing the result to memory."""
  return isinstance(x, Unnormalised) and cpu_kernels.usable(
    *(x.x, x.scale, x.bias, x.mean, x.var)
  )


def conv_of(
  x: jax.Array | Unnormalised,
  kernel: jax.Array,
  stride: int,
  dilation: int,
  train: bool,
) -> jax.Array:
  """`depthwise_conv` of a map, or of a map that is still to be normalised.

  Args:
    x: f[b, h, w, c].
    kernel, stride, dilation, train: as for `depthwise_conv`.
  """
  if isinstance(x, Unnormalised):
    depthwise.validate(x.x, kernel, stride, dilation)
    if dilation == 1 and fuses(x):
      with jax.named_scope("bn"):
        return _fused(x, kernel, stride)
    x = x.normalised()
  return depthwise.depthwise_conv(x, kernel, stride, dilation, train)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _fused(x: Unnormalised, kernel, stride):
  return cpu_kernels.on_cpu(
    cpu_kernels.norm_depthwise,
    _output,
    *_operands(x),
    kernel,
    ceiling=CEILINGS[x.activation],
    stride=stride,
  )


def _forward(x, kernel, stride):
  return _fused(x, kernel, stride), (x, kernel)


def _backward(stride, residuals, dy):
  x, kernel = residuals
  operands = _operands(x)
  dkernel = cpu_kernels.on_cpu(
    cpu_kernels.norm_depthwise_kernel_gradient,
    _kernel_gradient,
    *operands,
    kernel,
    dy,
    ceiling=CEILINGS[x.activation],
    stride=stride,
  )
  # The convolution is linear: its input gradient does not see its input.
  dnormal = depthwise.input_gradient(x.x, kernel, dy, stride, True)
  dx, dscale, dbias = norm_gradients(x.activation, operands, dnormal)
  # As in `batch_norm`, dx includes what goes through the moments.
  nothing = jnp.zeros_like(x.mean), jnp.zeros_like(x.var)
  return x.replace(
    x=dx, scale=dscale, bias=dbias, mean=nothing[0], var=nothing[1]
  ), dkernel


_fused.defvjp(_forward, _backward)


def _operands(x: Unnormalised) -> tuple[jax.Array, ...]:
  return x.x, x.mean, lax.rsqrt(x.var + x.epsilon), x.scale, x.bias


def _output(x, mean, rstd, scale, bias, kernel, ceiling, stride):
  y = normalise(x, mean, rstd, scale, bias, ceiling)
  return depthwise.native(y, kernel, stride)


def _kernel_gradient(x, mean, rstd, scale, bias, kernel, dy, ceiling, stride):
  y = normalise(x, mean, rstd, scale, bias, ceiling)
  return depthwise.native_kernel_gradient(y, kernel, dy, stride)
