"""Where the hidden channels of inverted bottlenecks lie in rows of banks.

Rows of banks have the hidden channels one after the other, so that a part is a
slice. A row of parameters, for H hidden channels:

    last norm's bias and scale          2 x features out
    norms' biases and scales            H x (bias, scale of each norm)
    expansion and projection            H x (features in + features out)
    depthwise kernel                    H x k * k

and one of statistics or of moments:

    last norm's mean and variance       2 x features out
    norms' means and variances          H x (mean, variance of each norm)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from proxyless_jax.space import Edge, MBConv, Op

# Most bytes of a part of a hidden map. At 224 pixels and 128 images on a chip,
# those of the first edge of `configs/imagenet_gpu.py` have up to 462 MB.
LARGEST = 1 << 27

# (norms f[c, vectors], matrices f[c, features], kernels f[c * k * k or more])
Part = tuple[jax.Array, jax.Array, jax.Array]


def is_bottleneck(op: Op) -> TypeGuard[MBConv]:
  """Whether it runs in parts: squeeze-and-excitation sees all channels."""
  return type(op) is MBConv and not op.squeeze


def row_of(op: MBConv, tree: Mapping[str, Any]) -> np.ndarray:
  """A candidate's row of a bank.

  Args:
    op: the candidate.
    tree: its variables of one collection, arrays of NumPy.
  """
  norms = [name for name in ("expand_bn", "depthwise_bn") if name in tree]
  columns = [leaf for name in norms for leaf in jax.tree.leaves(tree[name])]
  last = jax.tree.leaves(tree["project_bn"])
  pieces = [*last, np.stack(columns, -1)]
  if "project" in tree:
    matrices = [tree["project"]["kernel"][0, 0]]
    if op.expands:
      matrices.insert(0, tree["expand"]["kernel"][0, 0].T)
    pieces.append(np.concatenate(matrices, -1))
    pieces.append(np.moveaxis(tree["depthwise"], -1, 0))
  return np.concatenate([piece.ravel() for piece in pieces])


@dataclasses.dataclass(frozen=True)
class Group:
  """Bottlenecks that are one program: what is known before it runs.

  Attributes:
    ops: members, which differ in expansion and kernel alone.
    edge: edge without a name.
    train: whether to use the batch's moments.
    channels: number of hidden channels of a part.
  """

  ops: tuple[MBConv, ...]
  edge: Edge
  train: bool
  channels: int = 0

  @property
  def hidden(self) -> tuple[int, ...]:
    """Number of hidden channels of each member."""
    return tuple(op.hidden(self.edge) for op in self.ops)

  @property
  def kernels(self) -> tuple[int, ...]:
    """Sizes of kernels among the members."""
    return tuple(sorted({op.kernel for op in self.ops}))

  @property
  def vectors(self) -> int:
    """Number of vectors of the norms of hidden channels."""
    return 4 if self.ops[0].expands else 2

  @property
  def columns(self) -> int:
    """Number of weights of a hidden channel in both 1x1 convolutions."""
    edge = self.edge
    expansion = edge.features_in if self.ops[0].expands else 0
    return expansion + edge.features_out

  @property
  def head(self) -> int:
    """Length of what is of the last norm."""
    return 2 * self.edge.features_out

  def divided(self, x: jax.Array) -> Group:
    """With the widest parts whose maps of this batch are not too large."""
    channel = math.prod(x.shape[:-1]) * x.dtype.itemsize
    whole = math.gcd(*self.hidden)
    widths = [n for n in range(1, whole + 1) if whole % n == 0]
    if not self.ops[0].expands:
      widths = [whole]  # Its hidden map is the input.
    fits = [n for n in widths if n * channel <= LARGEST]
    return dataclasses.replace(self, channels=max(fits, default=widths[0]))

  def parts(self, member: jax.Array) -> jax.Array | int:
    """Number of parts of a member."""
    return of_member(member, [n // self.channels for n in self.hidden])

  def starts(
    self, member: jax.Array, part: jax.Array | int
  ) -> tuple[jax.Array | int, ...]:
    """Where the norms, matrices and kernels of a part begin in a row."""
    hidden = of_member(member, self.hidden)
    area = of_member(member, [op.kernel**2 for op in self.ops])
    first = part * self.channels
    matrices = self.head + hidden * self.vectors
    kernels = matrices + hidden * self.columns
    return (
      self.head + first * self.vectors,
      matrices + first * self.columns,
      kernels + first * area,
    )

  @property
  def shapes(self) -> tuple[tuple[int, ...], ...]:
    """Shapes of a `Part`, with the largest kernel."""
    c = self.channels
    area = max(self.kernels) ** 2
    return (c, self.vectors), (c, self.columns), (c * area,)

  def read(
    self, row: jax.Array, member: jax.Array, part: jax.Array | int
  ) -> Part:
    """A part's parameters; more than its kernel may follow it."""
    norms, matrices, kernels = (
      lax.dynamic_slice(row, (start,), (math.prod(shape),)).reshape(shape)
      for start, shape in zip(self.starts(member, part), self.shapes)
    )
    return norms, matrices, kernels

  def write(
    self, row: jax.Array, member: jax.Array, part: jax.Array | int, own: Part
  ) -> jax.Array:
    """The row with a part's values; zeros may follow its kernel."""
    for start, values in zip(self.starts(member, part), own):
      row = lax.dynamic_update_slice(row, values.ravel(), (start,))
    return row

  def read_moments(
    self, row: jax.Array | None, part: jax.Array | int
  ) -> jax.Array | None:
    """A part's moments f[c, vectors]; None where they are not known."""
    if row is None:
      return None
    shape = self.channels, self.vectors
    start = self.head + part * math.prod(shape)
    return lax.dynamic_slice(row, (start,), (math.prod(shape),)).reshape(shape)

  @property
  def readable(self) -> int:
    """Length of a row from which the last part of every member can be read."""
    largest, c = max(self.kernels) ** 2, self.channels
    return self.head + max(
      hidden * (self.vectors + self.columns)
      + (hidden - c) * op.kernel**2
      + c * largest
      for op, hidden in zip(self.ops, self.hidden)
    )


def of_member(member: jax.Array, values: Sequence[int]) -> jax.Array | int:
  """A member's value; known before a program runs, if all have the same."""
  if len(set(values)) == 1:
    return values[0]
  return jnp.array(values, jnp.int32)[member]
