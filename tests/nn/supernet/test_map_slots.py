"""Slots hold the maps of every candidate."""

import jax
import jax.numpy as jnp
from numpy.testing import assert_array_equal

from proxyless_jax.nn.supernet.map_slots import put, slot_shapes, take

MAPS = (
  {"hidden": jnp.arange(6.0).reshape(2, 3), "means": jnp.ones(2)},
  {"hidden": jnp.arange(4.0).reshape(1, 4)},
  {"hidden": jnp.arange(2, dtype=jnp.bfloat16).reshape(1, 2)},
  {},
)


def shapes_of(maps):
  return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), maps)


def test_a_slot_is_as_large_as_the_largest_map_of_its_name_and_type():
  assert slot_shapes(shapes_of(MAPS)) == {
    ("hidden", 2, "float32"): (2, 4),
    ("means", 1, "float32"): (2,),
    ("hidden", 2, "bfloat16"): (1, 2),
  }


def test_what_is_put_is_taken():
  slots = slot_shapes(shapes_of(MAPS))
  edges = [put(maps, slots) for maps in MAPS]
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *edges)
  for i, maps in enumerate(MAPS):
    taken = take(stacked, jnp.int32(i), shapes_of(maps))
    assert taken.keys() == maps.keys()
    jax.tree.map(assert_array_equal, taken, maps)
