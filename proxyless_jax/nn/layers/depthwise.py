"""Depthwise convolution that is fast, and compiles fast, on every platform.

  out[b, y, x, c] = sum_{i, j} padded[b, s y + i, s x + j, c] kernel[i, j, 0, c]

with k // 2 zeros on every side at every stride s: PyTorch's padding, which
published ProxylessNAS weights assume, not TensorFlow's SAME. (Dilation d: taps
d pixels apart, d times as many zeros.)

GPU and TPU run the native grouped convolution. XLA:CPU has no fast one. In
training on a CPU, kernels in C++ run (`proxyless_jax.nn.cpu_kernels`). In
inference, and where no compiler is at hand, the convolution and its two
gradients are sums of a few products, each over all channels, which XLA fuses
into one vectorised loop:

  output           a product per tap of the kernel
  input gradient   a product per tap, for all phases of the stride at once
  kernel gradient  a product per *position* of a block of the map, each adding
                   to all taps at once; a loop runs over the blocks

The last one swaps the roles of map and kernel: a sum per tap would be a slow
reduction over the whole map. The kernels take 0.45 of these products' time in
the median of shapes, with both gradients (`experiments/depthwise.py`).
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from proxyless_jax.nn import cpu_kernels

# Products in the kernel gradient's loop body: one row of 16 positions, or rows
# of fewer up to 32. Below 16, XLA fuses the loop's slices into every product:
# five times slower. Two rows of 16 take longer to compile and run no faster.
_FEWEST_PRODUCTS, _MOST_PRODUCTS = 16, 32
# Most numbers that the loop accumulates, 1 MiB of float32: what stays in cache.
_ACCUMULATORS = 1 << 18


def depthwise_conv(
  x: jax.Array,
  kernel: jax.Array,
  stride: int = 1,
  dilation: int = 1,
  train: bool = False,
) -> jax.Array:
  """Convolves each channel with its own kernel.

  Sums are taken in float32 or wider. Differentiable in reverse mode, in `x`
  and `kernel`; the kernels for CPUs once, not twice.

  Args:
    x: f[b, h, w, c], any floating-point type.
    kernel: f[k, k, 1, c] of x's type, k odd.
    stride: step of the window, 1 or more.
    dilation: pixels from one tap to the next; 1, unless the stride is 1 or a
      multiple of it.
    train: whether this is a step of training, which on a CPU may run kernels of
      this package. Without them an exported program is portable.

  Returns:
    f[b, ceil(h / stride), ceil(w / stride), c] of x's type.

  Raises:
    ValueError: an argument has the wrong shape, type or value.
  """
  validate(x, kernel, stride, dilation)
  if dilation == 1:
    return _conv(x, kernel, stride, train)
  if stride > 1:
    x = x[:, ::dilation, ::dilation]
    return _conv(x, kernel, stride // dilation, train)
  return _dilated(x, kernel, dilation, train)


def _dilated(x, kernel, d, train):
  """At stride 1: pixels that lie d apart see nothing of the others.

  So each of the d * d grids of such pixels is a map of its own.
  """
  b, h, w, c = x.shape
  rows, cols = -(-h // d), -(-w // d)
  x = jnp.pad(x, ((0, 0), (0, d * rows - h), (0, d * cols - w), (0, 0)))
  x = x.reshape(b, rows, d, cols, d, c).transpose(2, 4, 0, 1, 3, 5)
  x = _conv(x.reshape(d * d * b, rows, cols, c), kernel, 1, train)
  x = x.reshape(d, d, b, rows, cols, c).transpose(2, 3, 0, 4, 1, 5)
  return x.reshape(b, d * rows, d * cols, c)[:, :h, :w]


def validate(
  x: jax.Array, kernel: jax.Array, stride: int, dilation: int
) -> None:
  """Raises what `depthwise_conv` raises for such arguments."""
  if x.ndim != 4:
    raise ValueError(f"x has shape {x.shape}; expected [b, h, w, c]")
  k = kernel.shape[0] if kernel.ndim else 0
  if kernel.shape != (k, k, 1, x.shape[-1]) or k % 2 == 0:
    raise ValueError(
      f"kernel has shape {kernel.shape}; expected [k, k, 1, {x.shape[-1]}]"
      " with k odd: one square kernel per channel of x"
    )
  if x.dtype != kernel.dtype or not jnp.issubdtype(x.dtype, jnp.floating):
    raise ValueError(
      f"x is {x.dtype} and kernel {kernel.dtype}; expected one floating-point"
      " type for both: cast one of them"
    )
  if not isinstance(stride, int) or stride < 1:
    raise ValueError(f"stride is {stride!r}; expected an integer of 1 or more")
  if not isinstance(dilation, int) or dilation < 1:
    raise ValueError(
      f"dilation is {dilation!r}; expected an integer of 1 or more"
    )
  if stride > 1 and stride % dilation:
    raise ValueError(
      f"stride is {stride} and dilation {dilation}; expected a stride of 1, or "
      "a multiple of the dilation"
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x, kernel, stride, train):
  forms = cpu_kernels.depthwise, _output_by_taps, native
  return _by_platform(*forms, (x, kernel), stride, train)


def _conv_forward(x, kernel, stride, train):
  return _conv(x, kernel, stride, train), (x, kernel)


def _conv_backward(stride, train, residuals, dy):
  # Two choices rather than one of a pair, so that XLA can drop either gradient.
  dx = input_gradient(*residuals, dy, stride, train)
  forms = (
    cpu_kernels.depthwise_kernel_gradient,
    _kernel_gradient_by_positions,
    native_kernel_gradient,
  )
  return dx, _by_platform(*forms, (*residuals, dy), stride, train)


def input_gradient(
  x: jax.Array,
  kernel: jax.Array,
  dy: jax.Array,
  stride: int,
  train: bool,
) -> jax.Array:
  """The gradient f[b, h, w, c] of a convolution's input.

  Args:
    x: input, for its shape and type alone.
    kernel, stride, train: as for `depthwise_conv`.
    dy: gradient of the output.
  """
  forms = (
    cpu_kernels.depthwise_input_gradient,
    _input_gradient_by_taps,
    native_input_gradient,
  )
  return _by_platform(*forms, (x, kernel, dy), stride, train)


_conv.defvjp(_conv_forward, _conv_backward)


def _by_platform(compiled, products, by_xla, operands, stride, train):
  """The kernel in C++ or the sum of products on CPUs, else XLA's own."""
  if train and cpu_kernels.usable(*operands):
    return cpu_kernels.on_cpu(compiled, by_xla, *operands, stride=stride)
  return lax.platform_dependent(
    *operands,
    cpu=functools.partial(products, stride=stride),
    default=functools.partial(by_xla, stride=stride),
  )


def native(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """The convolution as XLA's own operation: see `depthwise_conv`."""
  pad = kernel.shape[0] // 2
  return lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(stride, stride),
    padding=[(pad, pad), (pad, pad)],
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1],
  )


def native_input_gradient(
  x: jax.Array, kernel: jax.Array, dy: jax.Array, stride: int
) -> jax.Array:
  """The gradient f[b, h, w, c] of `native`'s input."""
  return jax.vjp(lambda x: native(x, kernel, stride), x)[1](dy)[0]


def native_kernel_gradient(
  x: jax.Array, kernel: jax.Array, dy: jax.Array, stride: int
) -> jax.Array:
  """The gradient f[k, k, 1, c] of `native`'s kernel."""
  return jax.vjp(lambda kernel: native(x, kernel, stride), kernel)[1](dy)[0]


# The inner jits are there for their caches: equal shapes are traced once.
@functools.partial(jax.jit, static_argnames="stride")
def _output_by_taps(x, kernel, stride):
  """Returns f[b, rows, cols, c], rows = ceil(h / stride), cols likewise."""
  b, h, w, c = x.shape
  k = kernel.shape[0]
  rows, cols = -(-h // stride), -(-w // stride)
  high, wide = stride * (rows - 1) + 1, stride * (cols - 1) + 1
  dtype = _sum_dtype(x)
  padded = _pad_map(x.astype(dtype), k // 2, high + k - 1, wide + k - 1)
  kernel = kernel.astype(dtype)
  steps = (1, stride, stride, 1)
  out = jnp.zeros((b, rows, cols, c), dtype)
  for i in range(k):
    for j in range(k):
      tap = lax.slice(kernel, (i, j, 0, 0), (i + 1, j + 1, 1, c))
      seen = lax.slice(padded, (0, i, j, 0), (b, i + high, j + wide, c), steps)
      out += seen * tap
  return out.astype(x.dtype)


@functools.partial(jax.jit, static_argnames="stride")
def _input_gradient_by_taps(x, kernel, g, stride):
  """Returns f[b, h, w, c].

  x's row is stride * row + phase, so that all phases read the same rows of g,
  each through its own taps.
  """
  b, h, w, c = x.shape
  rows, cols = g.shape[1:3]
  dtype = _sum_dtype(x)
  taps, before = _taps_by_phase(kernel.astype(dtype), stride)
  n = taps.shape[0]
  padded = _pad_map(g.astype(dtype), before, rows + n - 1, cols + n - 1)
  padded = padded[:, :, None, :, None]
  out = jnp.zeros((b, rows, stride, cols, stride, c), dtype)
  for i in range(n):
    for j in range(n):
      tap = lax.slice(taps, (i, 0, j, 0, 0), (i + 1, stride, j + 1, stride, c))
      seen = lax.slice(
        padded, (0, i, 0, j, 0, 0), (b, i + rows, 1, j + cols, 1, c)
      )
      out += seen * tap
  out = out.reshape(b, stride * rows, stride * cols, c)
  return out[:, :h, :w].astype(x.dtype)


def _taps_by_phase(kernel, stride):
  """Returns f[n, phase, n, phase, c] and the n that meet earlier rows of g.

  x's row stride * row + phase meets g's row `row + i - before` through the
  kernel's row `phase + k // 2 - stride * (i - before)`; zero where there is
  none.
  """
  k, c = kernel.shape[0], kernel.shape[-1]
  before, after = (k // 2) // stride, (stride - 1 + k // 2) // stride
  n = before + 1 + after
  low = stride * after - k // 2
  pad = (low, stride * n - k - low)
  kernel = jnp.pad(kernel[:, :, 0], (pad, pad, (0, 0)))
  return kernel.reshape(n, stride, n, stride, c)[::-1, :, ::-1], before


@functools.partial(jax.jit, static_argnames="stride")
def _kernel_gradient_by_positions(x, kernel, g, stride):
  """Returns f[k, k, 1, c]."""
  c, k = x.shape[-1], kernel.shape[0]
  (images, high, wide), grid = _blocks(g.shape, k)
  reach = tuple(stride * (n - 1) + k for n in (high, wide))
  dtype = _sum_dtype(x)
  g = _pad_map(g.astype(dtype), 0, grid[1] * high, grid[2] * wide)
  x = _pad_map(
    x.astype(dtype),
    k // 2,
    stride * (grid[1] - 1) * high + reach[0],
    stride * (grid[2] - 1) * wide + reach[1],
  )

  def add_block(index: jax.Array, total: jax.Array) -> jax.Array:
    # Unsigned: no code for negative ones.
    index = jnp.asarray(index, jnp.uint32)
    image = index // (grid[1] * grid[2]) * images
    row = index // grid[2] % grid[1] * high
    col = index % grid[2] * wide
    zero = jnp.zeros_like(index)
    at = (image, row, col, zero)
    g_block = lax.dynamic_slice(g, at, (images, high, wide, c))
    at = (image, stride * row, stride * col, zero)
    x_block = lax.dynamic_slice(x, at, (images, *reach, c))
    return total + _correlate(x_block, g_block, k, stride)

  total = jnp.zeros((images, k, k, c), dtype)
  total = lax.fori_loop(0, grid[0] * grid[1] * grid[2], add_block, total)
  total = total.reshape(images, k, k, 1, c).sum(0)
  return total.astype(kernel.dtype)


def _correlate(x, g, k, stride):
  """Returns f[b, k, k, c], each image's share of the kernel's gradient."""
  b, high, wide, c = g.shape
  total = 0.0
  for i in range(high):
    for j in range(wide):
      y, z = stride * i, stride * j
      window = lax.slice(x, (0, y, z, 0), (b, y + k, z + k, c))
      total += window * lax.slice(g, (0, i, j, 0), (b, i + 1, j + 1, c))
  return total


def _blocks(shape, k):
  """Divides g: (images, rows, columns) of a block, and how many of each."""
  b, rows, cols, c = shape
  # Never the whole batch: XLA would unroll a loop of one block and fuse it with
  # the sum over images, which takes seconds to compile.
  images = max(
    (n for n in range(1, b) if b % n == 0 and n * k * k * c <= _ACCUMULATORS),
    default=1,
  )
  wide = -(-cols // -(-cols // _FEWEST_PRODUCTS))
  high = 1 if wide == _FEWEST_PRODUCTS else min(rows, _MOST_PRODUCTS // wide)
  return (images, high, wide), (b // images, -(-rows // high), -(-cols // wide))


def _sum_dtype(x):
  return jnp.promote_types(x.dtype, jnp.float32)


def _pad_map(x, before, high, wide):
  """Pads with zeros, or crops, to [b, high, wide, c].

  `before` zeros lead both axes. The barrier keeps XLA from moving the padding
  behind the slices that follow, to be done again for each.
  """
  h, w = x.shape[1:3]
  rows, cols = ((before, n - m - before, 0) for n, m in ((high, h), (wide, w)))
  padding = ((0, 0, 0), rows, cols, (0, 0, 0))
  return lax.optimization_barrier(lax.pad(x, jnp.zeros((), x.dtype), padding))
