"""The backward loop of a wiring is the transpose of its forward loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from proxyless_jax.nn.supernet.wiring import Graph, Line
from proxyless_jax.space.networks.tree import tree_graph

FACTORS = np.array([0.5, -2.0, 3.0, 1.5, 0.25, -1.0])


def ends_of(wiring, i):
  return jax.tree.map(lambda rows: rows[i], wiring.ends())


def forward(wiring, x):
  """Edge i multiplies what it reads by its factor."""
  carry, inputs = wiring.begin(x), []
  for i, factor in enumerate(FACTORS):
    inputs.append(wiring.read(carry, ends_of(wiring, i)))
    carry = wiring.write(carry, ends_of(wiring, i), factor * inputs[-1])
  return wiring.end(carry), wiring.save(carry, jnp.stack(inputs)), inputs


@pytest.mark.parametrize(
  ("wiring", "shape"),
  [
    (Line(True), (2,)),
    (Line(False), (2,)),
    (Graph(tree_graph(1, 2, 6)), (1, 2)),
    (Graph(tree_graph(3, 2, 6)), (3, 2)),
  ],
  ids=["shortcuts", "line", "tree", "three trees"],
)
def test_gradients_and_saved_inputs(wiring, shape):
  x = jnp.asarray(np.random.default_rng(0).standard_normal(shape))
  y, saved, inputs = forward(wiring, x)
  dy = jnp.cos(y)
  carry = wiring.begin_back(dy)
  for i in reversed(range(len(FACTORS))):
    ends = ends_of(wiring, i)
    assert_allclose(wiring.saved_of(saved, jnp.int32(i), ends), inputs[i])
    dx = FACTORS[i] * wiring.read_back(carry, ends)
    carry = wiring.write_back(carry, ends, dx)
  want = jax.vjp(lambda x: forward(wiring, x)[0], x)[1](dy)[0]
  assert_allclose(wiring.end_back(carry), want, rtol=1e-5)
