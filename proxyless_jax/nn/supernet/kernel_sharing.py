"""Kernel groups: candidates that share their code, compiled once for all.

Most MBConv candidates differ in nothing but the kernel of their depthwise
convolution and their expansion; all separable convolutions of trees, in the
kernel. A supernet compiles one program for such a group, with a switch over the
kernels inside, and a loop over parts of the hidden channels. Every other
operation is a group of its own.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from proxyless_jax.nn.layers.batch_norm import (
  MOMENTS,
  MUTATED,
  REUSED_MOMENTS,
  synced_batch_stats,
)
from proxyless_jax.nn.layers.declare import declarations
from proxyless_jax.nn.ops.base import MakeOptions, make
from proxyless_jax.nn.ops.tree import NormSepConvModule
from proxyless_jax.nn.supernet import bank
from proxyless_jax.nn.supernet.bottleneck import bottleneck_run
from proxyless_jax.nn.supernet.mixed import KernelGroup, Run
from proxyless_jax.nn.supernet.parts import is_bottleneck
from proxyless_jax.space import Edge, MBConv, NormSepConv, Op

Variables = Mapping[str, Any]
# Of a candidate that shares its program with a narrower one.
_MOST_PARTS = 4


def kernel_groups(
  ops: tuple[Op, ...],
  position: Edge,
  options: MakeOptions,
  train: bool,
) -> list[KernelGroup]:
  """The kernel groups of an edge's candidates, over rows of its banks.

  Args:
    ops: candidates.
    position: edge without a name, so that alike edges share their functions,
      and what JAX has traced of them.
    options: keyword arguments of `make`, as pairs.
    train: whether to use the batch's statistics, as in a module's call.
  """
  by_code: dict[Op, list[int]] = {}
  for i, op in enumerate(ops):
    by_code.setdefault(_shared(op, ops), []).append(i)
  # A switch wants outputs of one shape: moments as long as the longest.
  width = max(_moments(op, position) for op in ops)
  groups = []
  for candidates in by_code.values():
    members = tuple(ops[i] for i in candidates)
    run = _run_of(members, position, options, train, width)
    if any(map(is_bottleneck, ops)) and not is_bottleneck(members[0]):
      run = _keeping(run)
    groups.append(KernelGroup(run, tuple(candidates)))
  return groups


def _moments(op: Op, position: Edge) -> int:
  """Length of a candidate's row of moments."""
  # Rows of a bottleneck's moments are as those of its statistics, whose shapes
  # are known without tracing it in training.
  collection = "batch_stats" if is_bottleneck(op) else MOMENTS
  return bank.layout(op, position, collection).length


def _run_of(
  ops: tuple[Op, ...],
  position: Edge,
  options: MakeOptions,
  train: bool,
  width: int,
) -> Run:
  momentum = dict(options)["bn_momentum"]
  bottlenecks = tuple(op for op in ops if is_bottleneck(op))
  if bottlenecks:
    return bottleneck_run(bottlenecks, position, momentum, train, width)
  separable = tuple(op for op in ops if isinstance(op, NormSepConv))
  if len(separable) > 1:
    return _together(separable, position, options, train, width)
  return _alone(ops, position, options, train, width)


def _shared(op: Op, ops: tuple[Op, ...]) -> Op:
  """The operation without the fields in which members of a group differ."""
  if is_bottleneck(op):
    return dataclasses.replace(op, kernel=1, expand=_base(op, ops))
  if type(op) is NormSepConv:
    return dataclasses.replace(op, kernel=1, dilated=False)
  return op


def _base(op: MBConv, ops: tuple[Op, ...]) -> int | Fraction:
  """The expansion of a part: the smallest of the edge that divides the op's."""
  own = dataclasses.replace(op, kernel=1)
  found = [op.expand]
  for other in ops:
    if is_bottleneck(other) and _divides(other.expand, op.expand):
      alike = dataclasses.replace(other, kernel=1, expand=op.expand) == own
      found += [other.expand] * alike
  return min(found)


def _divides(small: int | Fraction, large: int | Fraction) -> bool:
  # On a GPU each turn of a loop of unknown length is a round trip to the host,
  # as is a `lax.switch`: 13 to 27 us on an H200 (docs/performance.md).
  if jax.default_backend() == "gpu":
    return False
  # Without an expansion there is another program.
  expand = 1 not in (small, large)
  return expand and large % small == 0 and large <= _MOST_PARTS * small


@functools.lru_cache(maxsize=4096)
def _keeping(run: Run) -> Run:
  """Its output also as what is kept, which has the same shape."""

  def keeping(member, params, stats, x, moments=None, kept=None):
    del kept
    y, new, moments, _ = run(member, params, stats, x, moments)
    return y, new, moments, y

  return keeping


# Cached: JAX's own caches are by function, so that a new function for each call
# would be traced, and compiled where it runs eagerly, every time.
@functools.lru_cache(maxsize=4096)
def _alone(
  ops: tuple[Op, ...],
  position: Edge,
  options: MakeOptions,
  train: bool,
  width: int,
) -> Run:
  (op,) = ops
  module = make(op, position, name=None, **dict(options))
  of_params = bank.layout(op, position, "params")

  def apply(
    variables: Variables, x: jax.Array, member: jax.Array
  ) -> tuple[jax.Array, Variables]:
    del member
    return module.apply(variables, x, train, mutable=MUTATED)

  def unpack(row: jax.Array, member: jax.Array) -> Any:
    del member
    return of_params.unpack(row)

  return _over_rows(apply, unpack, op, position, width)


@functools.lru_cache(maxsize=4096)
def _together(
  ops: tuple[NormSepConv, ...],
  position: Edge,
  options: MakeOptions,
  train: bool,
  width: int,
) -> Run:
  module = NormSepConvModule(ops, position, dict(options)["bn_momentum"])
  of_params = [bank.layout(op, position, "params") for op in ops]

  def apply(
    variables: Variables, x: jax.Array, member: jax.Array
  ) -> tuple[jax.Array, Variables]:
    return module.apply(variables, x, train, member, mutable=MUTATED)

  unpack = functools.partial(_unpack_member, of_params)
  return _over_rows(apply, unpack, ops[0], position, width)


def _over_rows(
  apply: Callable, unpack: Callable, op: Op, position: Edge, width: int
) -> Run:
  """A `KernelGroup.run`: a module over rows of banks instead of named trees.

  Args:
    apply: function (variables, x, member) -> (y, the collections `MUTATED`).
    unpack: function (row of parameters, member) -> tree of parameters.
    op: any member; all have statistics of the same shapes.
    position: edge without a name.
    width: length of a row of moments.
  """
  of_stats, of_moments = (bank.layout(op, position, name) for name in MUTATED)

  @jax.jit
  def run(
    member: jax.Array,
    params: jax.Array,
    stats: jax.Array,
    x: jax.Array,
    moments: bank.Array | None = None,
    kept: None = None,
  ) -> tuple[jax.Array, bank.Array, bank.Array, None]:
    del kept
    variables = {
      "params": unpack(params, member),
      "batch_stats": of_stats.unpack(stats),
    }
    if moments is not None:
      variables[REUSED_MOMENTS] = of_moments.unpack(moments)
    # Linen compares each parameter's shape with its initialiser's: that of a
    # declaration is traced faster.
    with declarations():
      y, mutated = apply(variables, x, member)
    # An operation without batch norm gives no collection back.
    mutated = {**variables, **mutated}
    new = of_stats.pack(synced_batch_stats(mutated), len(stats))
    if moments is None:
      dtype = jnp.promote_types(x.dtype, jnp.float32)
      moments = jnp.zeros(width, dtype)
      if MOMENTS in mutated:
        moments = of_moments.pack(mutated[MOMENTS], width).astype(dtype)
    # Linen's own layers give float32 for bfloat16, by their parameters.
    return y.astype(x.dtype), new.astype(stats.dtype), moments, None

  return run


def _unpack_member(layouts: list[bank.Layout], row, member):
  """The tree in the row of a member, its depthwise kernel as a vector.

  The members' trees are equal but for that kernel. The vector is as long as the
  longest kernel of the group, since the member is known only when the program
  runs: what follows the member's own kernel is of other leaves, and unused.
  """
  structure, shapes = layouts[0].structure, layouts[0].shapes
  names = structure.unflatten(range(len(shapes)))
  at = names["depthwise"]
  before = bank.Layout(structure, shapes[:at])
  after = bank.Layout(structure, shapes[at + 1 :])
  common = before.length + after.length
  sizes = [layout.length - common for layout in layouts]
  start = before.length + jnp.array(sizes, jnp.int32)[member]
  rest = lax.dynamic_slice(row, (start,), (after.length,))
  kernel = row[before.length : before.length + max(sizes)]
  return structure.unflatten(
    [*before.cut(row[: before.length]), kernel, *after.cut(rest)]
  )
