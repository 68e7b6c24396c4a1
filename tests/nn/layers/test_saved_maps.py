"""Maps that a module saves, and that its second run takes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from numpy.testing import assert_array_equal

from proxyless_jax.nn.layers.saved_maps import MAPS, REUSED_MAPS, save_map


class Hidden(nn.Module):
  """A layer whose output is saved, and a function of it."""

  names: tuple[str, ...] = ("hidden",)

  @nn.compact
  def __call__(self, x):
    y = nn.Dense(3, name="layer")(x)
    for name in self.names:
      y = save_map(self, name, y)
    return jnp.sin(y)


X = jnp.arange(8.0).reshape(2, 4)


@pytest.fixture(scope="module")
def params():
  variables = Hidden().init(jax.random.key(0), X)
  assert set(variables) == {"params"}
  return variables["params"]


def test_maps_are_saved_where_their_collection_is_mutable(params):
  y, new = Hidden().apply({"params": params}, X, mutable=[MAPS])
  assert_array_equal(y, jnp.sin(new[MAPS]["hidden"]))
  assert not Hidden().apply({"params": params}, X, mutable=["other"])[1]


def test_a_map_takes_the_place_of_what_made_it(params):
  def outputs(params, maps):
    variables = {"params": params, REUSED_MAPS: maps}
    return Hidden().apply(variables, X)

  _, new = Hidden().apply({"params": params}, X, mutable=[MAPS])
  y, pull = jax.vjp(lambda p: outputs(p, new[MAPS]), params)
  want, want_pull = jax.vjp(lambda p: outputs(p, {}), params)
  assert_array_equal(y, want)
  jax.tree.map(assert_array_equal, pull(X[:, :3]), want_pull(X[:, :3]))
  # Another map gives another output: the layer's own is not used.
  other = jax.tree.map(lambda one: one + 1.0, new[MAPS])
  assert_array_equal(outputs(params, other), jnp.sin(other["hidden"]))


def test_a_name_is_used_once(params):
  twice = Hidden(("hidden", "hidden"))
  with pytest.raises(ValueError, match="map 'hidden' of Hidden is saved twice"):
    twice.apply({"params": params}, X, mutable=[MAPS])
