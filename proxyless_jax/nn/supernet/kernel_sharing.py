"""Families: candidates that share their code, compiled once for all of them.

Most MBConv candidates differ in nothing but the kernel of their depthwise
convolution; and so do all separable convolutions of trees. A supernet compiles
one program for the family, with a switch over the kernels inside: half the
compile time. Every other operation is a family of its own.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax

from proxyless_jax.nn.layers.batch_norm import (
  GIVEN,
  MOMENTS,
  TOLD,
  agreed_statistics,
)
from proxyless_jax.nn.ops.base import make
from proxyless_jax.nn.ops.mobile import MBConvModule
from proxyless_jax.nn.ops.tree import NormSepConvModule
from proxyless_jax.nn.supernet import bank
from proxyless_jax.nn.supernet.mixed import Family
from proxyless_jax.space import Edge, MBConv, NormSepConv, Op


def families_of(
  ops: tuple[Op, ...], place: Edge, options, train: bool
) -> list[Family]:
  """The families of an edge's candidates, over rows of its banks.

  Args:
    ops: candidates.
    place: where they stand: an edge without a name, so that all edges alike
      share their functions, and what JAX has traced of them.
    options: keyword arguments of `make`, as pairs.
    train: as in a module's call.
  """
  groups: dict[object, list[int]] = {}
  for i, op in enumerate(ops):
    groups.setdefault(_shared(op), []).append(i)
  width = max(bank.layout(op, place, MOMENTS).length for op in ops)
  families = []
  for positions in groups.values():
    members = tuple(ops[i] for i in positions)
    make_run = _alone if len(members) == 1 else _together
    run = make_run(members, place, options, train, width)
    families.append(Family(run, tuple(positions)))
  return families


def _shared(op: Op) -> Op:
  """The operation without what members of a family differ in."""
  if type(op) is MBConv:
    return dataclasses.replace(op, kernel=1)
  if type(op) is NormSepConv:
    return dataclasses.replace(op, kernel=1, dilated=False)
  return op


@functools.lru_cache(maxsize=4096)
def _alone(ops: tuple[Op], place: Edge, options, train: bool, width: int):
  (op,) = ops
  module = make(op, place, name=None, **dict(options))
  of_params = bank.layout(op, place, "params")

  def apply(variables, x, member):
    del member
    return module.apply(variables, x, train, mutable=TOLD)

  def unpack(row, member):
    del member
    return of_params.unpack(row)

  return _over_rows(apply, unpack, op, place, width)


@functools.lru_cache(maxsize=4096)
def _together(
  ops: tuple[Op, ...], place: Edge, options, train: bool, width: int
):
  module_of = MBConvModule if type(ops[0]) is MBConv else NormSepConvModule
  module = module_of(ops, place, dict(options)["bn_momentum"])
  of_params = [bank.layout(op, place, "params") for op in ops]

  def apply(variables, x, member):
    return module.apply(variables, x, train, member, mutable=TOLD)

  unpack = functools.partial(_unpack_member, of_params)
  return _over_rows(apply, unpack, ops[0], place, width)


def _over_rows(apply, unpack, op: Op, place: Edge, width: int):
  """A `Family.run`: a module over rows of banks instead of named trees.

  Args:
    apply: (variables, x, member) -> (y, what the batch told, by `TOLD`).
    unpack: (row of parameters, member) -> their tree.
    op: a member; all have statistics of the same shapes.
    place: where it stands.
    width: of a row of moments.
  """
  of_stats, of_moments = (bank.layout(op, place, name) for name in TOLD)

  @jax.jit
  def run(member, params, stats, x, moments=None):
    variables = {
      "params": unpack(params, member),
      "batch_stats": of_stats.unpack(stats),
    }
    if moments is not None:
      variables[GIVEN] = of_moments.unpack(moments)
    y, told = apply(variables, x, member)
    told = {**variables, **told}
    new = of_stats.pack(agreed_statistics(told), len(stats))
    if moments is None:
      dtype = jnp.promote_types(x.dtype, jnp.float32)
      moments = jnp.zeros(width, dtype)
      if MOMENTS in told:
        moments = of_moments.pack(told[MOMENTS], width).astype(dtype)
    # Linen's own layers give float32 for bfloat16, by their parameters.
    return y.astype(x.dtype), new.astype(stats.dtype), moments

  return run


def _unpack_member(layouts: list[bank.Layout], row, member):
  """The tree in the row of a member, its depthwise kernel as a vector.

  The members' trees are equal but for it. The vector is as long as the longest
  kernel of the family: what follows the member's own is not its to use.
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
