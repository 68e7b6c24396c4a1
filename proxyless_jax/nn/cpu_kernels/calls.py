"""The kernels as functions of arrays, without gradients of their own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from proxyless_jax.nn.cpu_kernels.build import available, enabled


def usable(*operands: jax.Array) -> bool:
  """Whether the kernels can be called on these arrays.

  They can on arrays of float32, none of them empty.
  """
  fit = all(x.dtype == jnp.float32 and 0 not in x.shape for x in operands)
  return fit and bool(enabled.value) and available()


def on_cpu(
  kernel: Callable, default: Callable, *operands: jax.Array, **options: Any
) -> Any:
  """A kernel's result on a CPU, if it can be called; else the default's.

  Args:
    kernel: function of the operands and options.
    default: another one, with results of the same shapes.
    operands: arrays.
    options: numbers.
  """
  if not usable(*operands):
    return default(*operands, **options)
  return _chosen(kernel, default, tuple(options.items()), *operands)


# Jitted for its cache: a supernet asks for the same shapes many times, and both
# forms are traced once for each.
@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _chosen(kernel, default, options, *operands):
  return lax.platform_dependent(
    *operands,
    cpu=functools.partial(kernel, **dict(options)),
    default=functools.partial(default, **dict(options)),
  )


def depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """The output of a depthwise convolution.

  Args:
    x: f32[b, h, w, c].
    kernel: f32[k, k, 1, c].
    stride: step of the window.

  Returns:
    f32[b, ceil(h / stride), ceil(w / stride), c].
  """
  (y,) = _call("depthwise", [_strided(x, stride)], x, kernel, stride=stride)
  return y


def depthwise_input_gradient(
  x: jax.Array, kernel: jax.Array, dy: jax.Array, stride: int
) -> jax.Array:
  """The gradient f32[b, h, w, c] of its input, given that of its output."""
  name = "depthwise_input_gradient"
  (dx,) = _call(name, [x.shape], kernel, dy, stride=stride)
  return dx


def depthwise_kernel_gradient(
  x: jax.Array, kernel: jax.Array, dy: jax.Array, stride: int
) -> jax.Array:
  """The gradient f32[k, k, 1, c] of its kernel, given that of its output."""
  name = "depthwise_kernel_gradient"
  (dkernel,) = _call(name, [kernel.shape], x, dy, stride=stride)
  return dkernel


def batch_means(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Means of f32[b, h, w, c], and of its squares: f32[c] each."""
  mean, square = _call("moments", [x.shape[-1:]] * 2, x)
  return mean, square


def normalise(
  x: jax.Array,
  mean: jax.Array,
  rstd: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
  ceiling: float | None,
) -> jax.Array:
  """y = (x - mean) * rstd * scale + bias, then min(max(y, 0), ceiling).

  Args:
    x: f32[b, h, w, c].
    mean, rstd, scale, bias: f32[c].
    ceiling: 6 for ReLU6, infinity for ReLU, None for no activation.
  """
  operands = x, mean, rstd, scale, bias
  (y,) = _call("normalise", [x.shape], *operands, ceiling=ceiling)
  return y


def norm_gradient_sums(
  x: jax.Array,
  dy: jax.Array,
  mean: jax.Array,
  rstd: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
  ceiling: float | None,
) -> tuple[jax.Array, jax.Array]:
  """The gradients of bias and scale in `normalise`: f32[c] each.

  Args:
    x: f32[b, h, w, c].
    dy: gradient of the output.
    mean, rstd, scale, bias, ceiling: as for `normalise`.
  """
  name, shapes = "norm_gradient_sums", [x.shape[-1:]] * 2
  operands = x, dy, mean, rstd, scale, bias
  dbias, dscale = _call(name, shapes, *operands, ceiling=ceiling)
  return dbias, dscale


def norm_input_gradient(
  x: jax.Array,
  dy: jax.Array,
  mean: jax.Array,
  rstd: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
  mean_dbias: jax.Array,
  mean_dscale: jax.Array,
  ceiling: float | None,
) -> jax.Array:
  """The gradient of x in `normalise` by the batch's own moments.

  Args:
    x, dy, mean, rstd, scale, bias, ceiling: as for `norm_gradient_sums`.
    mean_dbias, mean_dscale: its results, divided by the number of pixels of
      the whole batch.
  """
  name = "norm_input_gradient"
  operands = x, dy, mean, rstd, scale, bias, mean_dbias, mean_dscale
  (dx,) = _call(name, [x.shape], *operands, ceiling=ceiling)
  return dx


def norm_depthwise(
  x: jax.Array,
  mean: jax.Array,
  rstd: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
  kernel: jax.Array,
  ceiling: float | None,
  stride: int,
) -> jax.Array:
  """`depthwise` of `normalise`, whose result is nowhere in memory.

  Args:
    x, mean, rstd, scale, bias, ceiling: as for `normalise`.
    kernel, stride: as for `depthwise`.
  """
  operands = x, mean, rstd, scale, bias, kernel
  numbers = dict(ceiling=ceiling, stride=stride)
  (y,) = _call("norm_depthwise", [_strided(x, stride)], *operands, **numbers)
  return y


def norm_depthwise_kernel_gradient(
  x: jax.Array,
  mean: jax.Array,
  rstd: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
  kernel: jax.Array,
  dy: jax.Array,
  ceiling: float | None,
  stride: int,
) -> jax.Array:
  """The gradient f32[k, k, 1, c] of the kernel in `norm_depthwise`.

  Args:
    x, mean, rstd, scale, bias, kernel, ceiling, stride: as there.
    dy: gradient of the output.
  """
  name = "norm_depthwise_kernel_gradient"
  operands = x, mean, rstd, scale, bias, dy
  numbers = dict(ceiling=ceiling, stride=stride)
  (dkernel,) = _call(name, [kernel.shape], *operands, **numbers)
  return dkernel


def _strided(x: jax.Array, stride: int) -> tuple[int, ...]:
  """The shape of a depthwise convolution's output."""
  b, h, w, c = x.shape
  return b, -(-h // stride), -(-w // stride), c


def _call(
  name: str, shapes: list[tuple[int, ...]], *operands: jax.Array, **numbers: Any
) -> list[jax.Array]:
  """Calls a kernel that has results of these shapes."""
  # As C++ reads them: a negative ceiling stands for no activation.
  if "ceiling" in numbers:
    ceiling = numbers["ceiling"]
    numbers["ceiling"] = np.float32(-1.0 if ceiling is None else ceiling)
  if "stride" in numbers:
    numbers["stride"] = np.int64(numbers["stride"])
  results = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  name = f"proxyless_jax_{name}"
  call = jax.ffi.ffi_call(name, results, vmap_method="sequential")
  return list(call(*operands, **numbers))
