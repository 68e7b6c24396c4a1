"""Inverted bottlenecks that share their code, some hidden channels at a time.

    o(x) = norm(sum_p project_p(norm(depthwise_p(norm(expand_p(x))))))

Between expansion and projection a channel sees nothing of the others: batch
norm's moments are of its own map. So an expansion of 6 is two parts of an
expansion of 3, and candidates that differ in expansion and kernel are one
program, whose loop over the parts runs as often as the drawn candidate has
them. Of the hidden maps, the largest of a network, one part is in memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from proxyless_jax.nn import cpu_kernels
from proxyless_jax.nn.layers.batch_norm import (
  CEILINGS,
  Unnormalised,
  at_least_float32,
  batch_moments,
  batch_norm,
  normalise,
)
from proxyless_jax.nn.layers.linear import conv1x1
from proxyless_jax.nn.layers.norm_depthwise import conv_of, fuses
from proxyless_jax.nn.layers.switch import switch
from proxyless_jax.nn.supernet.parts import Group, Part, of_member
from proxyless_jax.space import Edge, MBConv


# Cached, so that what JAX has traced of it is found again.
@functools.lru_cache(maxsize=4096)
def bottleneck_run(
  ops: tuple[MBConv, ...],
  position: Edge,
  bn_momentum: float,
  train: bool,
  width: int,
) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array, jax.Array]]:
  """The `KernelGroup.run` of inverted bottlenecks.

  Args:
    ops: members, which differ in expansion and kernel alone.
    position: edge without a name.
    bn_momentum: momentum of the running batch-norm statistics.
    train: whether to use the batch's statistics.
    width: length of a row of moments.
  """
  group, epsilon = Group(ops, position, train), ops[0].epsilon
  out = position.features_out

  @jax.jit
  def run(member, params, stats, x, moments=None, kept=None):
    own = group.divided(x)
    rest = jnp.zeros(max(0, own.readable - len(params)), params.dtype)
    row = jnp.concatenate([params, rest])
    known = moments if train else stats.astype(at_least_float32(x.dtype))
    y, hidden = _projected(own, row, x, member, known, kept)
    bias, scale = params[:out], params[out : group.head]
    if not train:
      mean, var = stats[:out], stats[out : group.head]
      z = normalise(y, mean, lax.rsqrt(var + epsilon), scale, bias, None)
      return z, stats, jnp.zeros(width, at_least_float32(x.dtype)), y
    if moments is None:
      moments = jnp.concatenate([*_moments(y), hidden])
      moments = jnp.pad(moments, (0, width - len(moments)))
    last = moments[:out], moments[out : group.head]
    with jax.named_scope("bn"):
      z = batch_norm(y, scale, bias, last, epsilon, "linear")
    new = jnp.pad(moments, (0, max(0, len(stats) - width)))[: len(stats)]
    new = bn_momentum * stats + (1.0 - bn_momentum) * new
    # Beyond the member's own there are zeros.
    length = group.head + of_member(member, group.hidden) * group.vectors
    new = jnp.where(jnp.arange(len(new)) < length, new, 0.0)
    return z, new.astype(stats.dtype), moments, y

  return run


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _projected(
  group: Group,
  row: jax.Array,
  x: jax.Array,
  member: jax.Array,
  known: jax.Array | None,
  kept: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
  """The projections' sum f[b, h', w', features out], and the moments.

  Args:
    group: members and parts.
    row: parameters f[length].
    x: f[b, h, w, c].
    member: i32[], which member is run.
    known: row of moments, or None for the batch's.
    kept: the result of an earlier call with the same arguments, or None.
      Gradients are the same: nothing is run for the result.

  Returns:
    The sum of x's type, and f[H * vectors] of the most hidden channels H.
  """
  length = max(group.hidden) * group.vectors
  if kept is not None:
    assert known is not None  # Both are of the same earlier call.
    return kept, known[group.head : group.head + length]
  dtype = at_least_float32(x.dtype)

  def body(part, carry):
    total, moments = carry
    pieces = group.read(row, member, part)
    y, own = _part(group, pieces, x, member, group.read_moments(known, part))
    total = y if total is None else total + y.astype(dtype)
    start = part * group.channels * group.vectors
    return total, lax.dynamic_update_slice(moments, own.ravel(), (start,))

  moments = jnp.zeros(length, dtype)
  parts = group.parts(member)
  if isinstance(parts, int) and parts == 1:
    return body(0, (None, moments))
  shape = (*x.shape[:1], *group.edge.shape_out)
  total = jnp.zeros(shape, dtype)
  total, moments = lax.fori_loop(0, parts, body, (total, moments))
  return total.astype(x.dtype), moments


def _projected_forward(group, row, x, member, known, kept):
  # Known when the backward pass is traced: a pytree without leaves, or none.
  wanted = () if row.perturbed else None
  arguments = (row, x, member, known, kept)
  row, x, member, known, kept = (a if a is None else a.value for a in arguments)
  y, hidden = _projected(group, row, x, member, known, kept)
  if known is None:
    # Of a row, what is of the last norm is not looked at.
    known = jnp.pad(hidden, (group.head, 0))
  return (y, hidden), (row, x, member, known, wanted)


def _projected_backward(group, residuals, cotangents):
  row, x, member, known, wanted = residuals
  dy = cotangents[0]
  if not isinstance(dy, jax.Array):
    dy = jnp.zeros(dy.aval.shape, dy.aval.dtype)

  def body(part, carry):
    dx, drow = carry
    pieces = group.read(row, member, part)
    moments = group.read_moments(known, part)

    def output(x, pieces):
      return _part(group, pieces, x, member, moments)[0]

    if drow is not None:
      own, dpieces = jax.vjp(output, x, pieces)[1](dy)
      drow = group.write(drow, member, part, dpieces)
    else:
      (own,) = jax.vjp(lambda x: output(x, pieces), x)[1](dy)
    return (own if dx is None else dx + own), drow

  drow = None if wanted is None else jnp.zeros_like(row)
  parts = group.parts(member)
  if isinstance(parts, int) and parts == 1:
    dx, drow = body(0, (None, drow))
  else:
    start = jnp.zeros_like(x), drow
    dx, drow = lax.fori_loop(0, parts, body, start)
  return drow, dx, None, None, None


_projected.defvjp(_projected_forward, _projected_backward, symbolic_zeros=True)


@jax.named_scope("part")
def _part(
  group: Group,
  pieces: Part,
  x: jax.Array,
  member: jax.Array,
  known: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
  """What the projection makes of some hidden channels, and their moments.

  Args:
    group: members and parts.
    pieces: parameters of the channels.
    x: f[b, h, w, c].
    member: i32[].
    known: moments f[channels, vectors], or None for the batch's.
  """
  (norms, matrices, kernels), op = pieces, group.ops[0]
  vectors, found = list(norms.T), [] if known is None else list(known.T)
  wide: jax.Array | Unnormalised = x
  if op.expands:
    features = group.edge.features_in
    wide = conv1x1(x, matrices[:, :features].T)
    matrices = matrices[:, features:]
    if known is None:
      found += _moments(wide)
    bias, scale, *vectors = vectors
    wide = _norm(group, wide, scale, bias, *found[:2])
  y = _depthwise(group, wide, kernels, member)
  if known is None:
    found += _moments(y)
  bias, scale = vectors
  y = _norm(group, y, scale, bias, *found[-2:])
  y = y.normalised() if isinstance(y, Unnormalised) else y
  moments = jnp.stack(found, -1).astype(at_least_float32(x.dtype))
  return conv1x1(y, matrices), moments


def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """As a `BatchNorm` has them, under the name by which traces know them."""
  with jax.named_scope("bn._moments"):
    return batch_moments(lax.stop_gradient(x))


def _norm(group: Group, x, scale, bias, mean, var):
  """In training x and how it is to be normalised, else the result."""
  op = group.ops[0]
  if group.train:
    return Unnormalised(
      *(x, scale, bias, mean, var),
      epsilon=op.epsilon,
      activation=op.activation,
    )
  rstd = lax.rsqrt(var + op.epsilon)
  ceiling = CEILINGS[op.activation]
  return normalise(x, mean, rstd, scale, bias, ceiling)


def _depthwise(group: Group, x, kernels, member) -> jax.Array:
  """By the member's kernel, with which the vector begins."""
  if isinstance(x, Unnormalised) and not fuses(x):
    x = x.normalised()  # Here, since each kernel's branch would do it.
  branches = tuple(
    functools.partial(_conv, size, group.edge.stride, group.train)
    for size in group.kernels
  )
  kernels = kernels.astype(x.dtype)
  if len(branches) == 1:
    return branches[0](x, kernels)
  number = of_member(
    member, [group.kernels.index(op.kernel) for op in group.ops]
  )
  return switch(branches, number, x, kernels)


def _conv(size: int, stride: int, train: bool, x, kernels) -> jax.Array:
  channels = x.shape[-1]
  kernel = kernels[: channels * size**2].reshape(channels, size**2)
  usable = fuses(x) or (train and cpu_kernels.usable(x, kernel))
  kernel = kernel.T if usable else _channels_last(kernel)
  kernel = kernel.reshape(size, size, 1, channels)
  return conv_of(x, kernel, stride, 1, train)


def _channels_last(kernel: jax.Array) -> jax.Array:
  """f[channels, k * k] transposed, in memory, too.

  XLA:CPU would leave channels as far apart as they are, and read them so for
  every pixel of the sums of products that it runs without a C++ compiler: four
  times as slow. But it writes a matrix product row by row.
  """
  identity = jnp.eye(len(kernel), dtype=kernel.dtype)
  return lax.platform_dependent(
    kernel, cpu=lambda kernel: kernel.T @ identity, default=jnp.transpose
  )
