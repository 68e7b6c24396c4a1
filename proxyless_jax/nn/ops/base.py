"""`make`: from a candidate operation to the Linen module that computes it.

The files beside this one register the modules of this package's operations.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn

from proxyless_jax.space import Edge, Op

# Keyword arguments of `make` but the name, as pairs: hashable.
MakeOptions = tuple[tuple[str, Any], ...]


@functools.singledispatch
def make(
  op: Op, edge: Edge, *, name: str | None, bn_momentum: float, dropout: float
) -> nn.Module:
  """The module of `op` on `edge`, called as `module(x, train)`.

  It maps f[b, *edge.shape_in] to f[b, *edge.shape_out]. For an operation of
  your own, register a function with the same arguments:

      @pj.make.register
      def _(op: FusedConv, edge, *, name, bn_momentum, dropout):
        return FusedConvModule(op.kernel, edge.features_out, name=name)

  Its module may be made of any Linen layers with 'params' and 'batch_stats'. In
  an architecture it may draw random numbers from the stream 'dropout'. As a
  candidate among others it gets no such stream, and must do without.

  For the numbers of one device on several, its batch norm is `pj.BatchNorm`:
  another sees each device's share of a batch by itself. Random numbers come
  from `parallel.collectives.per_example`: others are the same for each share.

  Args:
    op: the operation.
    edge: edge that the module computes: widths, stride, size.
    name: name of the module, to be passed on: its parameters lie under it.
      None for a module by itself, whose parameters lie under no name.
    bn_momentum: momentum of the running batch-norm statistics.
    dropout: rate before the classifier.

  Raises:
    TypeError: no module is registered for the operation's type.
  """
  if isinstance(op, str):
    raise TypeError(
      f"operation {op!r} is a name: expected an operation, such as "
      "proxyless_jax.space.parse_op(name) gives"
    )
  raise TypeError(
    f"operation {op!r} has no module: register one with "
    f"@proxyless_jax.make.register for {type(op).__name__}"
  )
