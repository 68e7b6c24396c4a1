"""Depthwise convolution by Pallas for NVIDIA's GPUs (Triton).

Candidates for `proxyless_jax.nn.layers.depthwise`, to be measured against
XLA's. A program of the grid holds 64 channels. In the gradient of the kernel
each thread sums its own pixels for all taps in registers; threads are added up
once, at the end, and programs by XLA.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

CHANNELS = 64
# Pixels of a row at once, by the kernel's size: so many sums fit the registers.
WIDE = {3: 16, 5: 8, 7: 4}
# Programs that the gradient of the kernel is divided among.
PROGRAMS = 1024


@functools.partial(jax.jit, static_argnames=("stride", "interpret"))
def output(x, kernel, stride: int, *, interpret: bool = False):
  """f[b, h, w, c], f[k, k, 1, c] -> f[b, rows, cols, c]."""
  b, h, w, c = x.shape
  k = kernel.shape[0]
  rows, cols = -(-h // stride), -(-w // stride)
  wide = _tile(16, cols)
  run = functools.partial(_output, x.shape, k, stride, (rows, cols), wide)
  out = pl.pallas_call(
    run,
    jax.ShapeDtypeStruct((b * rows * cols * c,), x.dtype),
    grid=(pl.cdiv(c, CHANNELS), b * rows, pl.cdiv(cols, wide)),
    interpret=interpret,
    compiler_params=triton.CompilerParams(num_warps=4),
  )(x.ravel(), kernel.ravel())
  return out.reshape(b, rows, cols, c)


def _output(shape, k, stride, out_shape, wide, x_ref, kernel_ref, out_ref):
  c, (rows, cols) = shape[-1], out_shape
  channel, inside = _channels(c)
  row, col = pl.program_id(1), _pixels(pl.program_id(2), wide)
  total = jnp.zeros((wide, CHANNELS), jnp.float32)
  for i in range(k):
    for j in range(k):
      at, seen = _tap(shape, row // rows, row % rows, col, stride, i, j, k)
      seen &= inside & (col < cols)
      x = triton.load(x_ref.at[at + channel], mask=seen, other=0.0)
      tap = (i * k + j) * c + channel
      tap = triton.load(kernel_ref.at[tap], mask=inside, other=0.0)
      total += x.astype(jnp.float32) * tap.astype(jnp.float32)
  at = (row * cols + col) * c + channel
  mask = inside & (col < cols)
  triton.store(out_ref.at[at], total.astype(out_ref.dtype), mask=mask)


@functools.partial(jax.jit, static_argnames=("k", "stride", "interpret"))
def kernel_gradient(x, g, k: int, stride: int, *, interpret: bool = False):
  """f[b, h, w, c], f[b, rows, cols, c] -> f[k, k, 1, c]."""
  c, (b, rows, cols) = x.shape[-1], g.shape[:3]
  wide = _tile(WIDE[k], cols)
  tiles = b * rows * pl.cdiv(cols, wide)
  groups = pl.cdiv(c, CHANNELS)
  programs = min(tiles, max(1, PROGRAMS // groups))
  run = functools.partial(
    _kernel_gradient, x.shape, g.shape, k, stride, wide, programs
  )
  parts = pl.pallas_call(
    run,
    jax.ShapeDtypeStruct((programs * k * k * c,), jnp.float32),
    grid=(groups, programs),
    interpret=interpret,
    compiler_params=triton.CompilerParams(num_warps=4),
  )(x.ravel(), g.ravel())
  total = parts.reshape(programs, k, k, 1, c).sum(0)
  return total.astype(x.dtype)


def _kernel_gradient(
  shape, g_shape, k, stride, wide, programs, x_ref, g_ref, out_ref
):
  b, rows, cols, c = g_shape
  across = pl.cdiv(cols, wide)
  tiles = b * rows * across
  channel, inside = _channels(c)
  program = pl.program_id(1)

  def add(n, totals):
    tile = program + n * programs
    row, col = tile // across, _pixels(tile % across, wide)
    # The last round has too few tiles: the others count nothing.
    mine = inside & (col < cols) & (tile < tiles)
    at = (row * cols + col) * c + channel
    g = triton.load(g_ref.at[at], mask=mine, other=0.0).astype(jnp.float32)
    new = []
    for tap, total in enumerate(totals):
      i, j = divmod(tap, k)
      at, seen = _tap(shape, row // rows, row % rows, col, stride, i, j, k)
      x = triton.load(x_ref.at[at + channel], mask=seen & mine, other=0.0)
      new.append(total + x.astype(jnp.float32) * g)
    return tuple(new)

  zero = jnp.zeros((wide, CHANNELS), jnp.float32)
  rounds = pl.cdiv(tiles, programs)
  totals = lax.fori_loop(0, rounds, add, (zero,) * k**2)
  channel, inside = channel[0], inside[0]
  for tap, total in enumerate(totals):
    at = (program * k**2 + tap) * c + channel
    triton.store(out_ref.at[at], total.sum(0), mask=inside)


def _tile(most: int, cols: int) -> int:
  """Pixels at once: a power of two, no more than a row needs."""
  return min(most, 1 << (cols - 1).bit_length())


def _channels(c: int):
  """i32[1, CHANNELS] of a program, and which of them there are."""
  channel = pl.program_id(0) * CHANNELS + jnp.arange(CHANNELS)[None]
  return channel, channel < c


def _pixels(tile, wide: int):
  """i32[wide, 1], of a row."""
  return tile * wide + jnp.arange(wide)[:, None]


def _tap(shape, image, row, col, stride, i, j, k):
  """Where a tap reads, i32[wide, 1], and whether that is in the map."""
  _, h, w, c = shape
  y, z = stride * row + i - k // 2, stride * col + j - k // 2
  seen = (y >= 0) & (y < h) & (z >= 0) & (z < w)
  return ((image * h + y) * w + z) * c, seen
