"""Places for the maps that drawn candidates save for the backward pass.

The branches of a switch return arrays of equal shapes, and candidates save maps
of different widths: a slot holds the maps of one name, and is as large as the
largest of them. What a candidate lacks of it is zero. Candidates of one kernel
group save maps of the same shapes.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

# Maps of a candidate, or their shapes, by name.
Maps = dict[str, jax.Array]
Shapes = dict[str, jax.ShapeDtypeStruct]
# The same of slots: a slot is for maps of one name, rank and type.
Slot = tuple[str, int, str]
Slots = dict[Slot, jax.Array]


def slot_shapes(shapes: Sequence[Shapes]) -> dict[Slot, tuple[int, ...]]:
  """The shapes of the slots for maps of some candidates.

  Args:
    shapes: shapes of the maps of each.
  """
  slots: dict[Slot, tuple[int, ...]] = {}
  for own in shapes:
    for name, one in own.items():
      slot = _slot(name, one)
      sizes = zip(slots.get(slot, one.shape), one.shape)
      slots[slot] = tuple(map(max, sizes))
  return slots


def _slot(name: str, one: jax.Array | jax.ShapeDtypeStruct) -> Slot:
  return name, len(one.shape), str(one.dtype)


def put(maps: Maps, slots: dict[Slot, tuple[int, ...]]) -> Slots:
  """A candidate's maps in slots of these shapes, padded with zeros."""
  own = {_slot(name, one): one for name, one in maps.items()}
  filled = {}
  for slot, shape in slots.items():
    dtype = slot[-1]
    if slot in own:
      sizes = zip(own[slot].shape, shape)
      padding = [(0, size - length, 0) for length, size in sizes]
      filled[slot] = lax.pad(own[slot], jnp.zeros((), dtype), padding)
    else:
      filled[slot] = jnp.zeros(shape, dtype)
  return filled


def take(slots: Slots, i: jax.Array, shapes: Shapes) -> Maps:
  """A candidate's maps.

  Args:
    slots: slots of all edges, with a leading axis for these.
    i: i32[], number of the edge.
    shapes: shapes of the candidate's maps.
  """
  zero = jnp.zeros_like(i)
  return {
    name: lax.dynamic_slice(
      slots[_slot(name, one)], (i, *[zero] * len(one.shape)), (1, *one.shape)
    )[0]
    for name, one in shapes.items()
  }
