"""What layers and losses exchange where devices share a batch.

A step that runs on several devices is traced once, for one device's share of
the batch, under `jax.shard_map`. There a sum over examples is a sum over the
axis `data` too, and random numbers of examples are those that one device would
draw for the whole batch: so what is computed by these does not depend on how
many devices there are. Outside `shard_map`, and under axes of other names, all
of this does nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
from jax import lax

# Of a mesh whose devices share a batch.
DATA = "data"


def shares() -> int:
  """Over how many devices the batch is spread in what is being traced."""
  mesh = jax.sharding.get_abstract_mesh()
  return mesh.shape[DATA] if DATA in mesh.manual_axes else 1


def add_up(tree):
  """The sum over all devices' shares of a pytree; not differentiable."""
  return lax.psum(tree, DATA) if shares() > 1 else tree


@jax.custom_vjp
def total(x):
  """The sum over all devices' shares, of which each pulls back its own.

  Every device holds the same loss, so its cotangent reaches each share once;
  gradients of what all devices hold alike have to be added up after it.
  """
  return add_up(x)


total.defvjp(lambda x: (total(x), None), lambda _, dy: (dy,))


@jax.custom_vjp
def held_by_all(x):
  """`x`, the same on all devices; its gradient is the sum of theirs."""
  return x


held_by_all.defvjp(lambda x: (x, None), lambda _, dy: (add_up(dy),))


def of_examples(draw: Callable[[int], jax.Array], batch: int) -> jax.Array:
  """Random numbers of this device's examples.

  Args:
    draw: from the number of examples n of the whole batch to f[n, ...].
    batch: examples of this device.

  Returns:
    f[batch, ...]. XLA draws no others, where `draw` is one of `jax.random`.
  """
  devices = shares()
  values = draw(batch * devices)
  if devices == 1:
    return values
  start = lax.axis_index(DATA) * batch
  return lax.dynamic_slice_in_dim(values, start, batch)
