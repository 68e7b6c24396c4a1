"""variables.npz gives back what was evaluated, whatever its leaves are."""

import jax
import jax.numpy as jnp
import numpy as np

import proxyless_jax as pj
from proxyless_jax.run.storage.variables import (
  keep_variables,
  kept_variables,
  on_host,
)

NETWORK = pj.mobile_space(image_size=32, classes=3).choose([0] * 21)


def kept(variables, folder):
  keep_variables(folder, NETWORK, on_host(variables), {"top1": 0.25})
  return kept_variables(folder)


def test_no_file(tmp_path):
  assert kept_variables(tmp_path) is None


def test_a_network(tmp_path):
  variables = pj.init(pj.build(NETWORK), jax.random.key(0))
  found = kept(variables, tmp_path)
  jax.tree.map(np.testing.assert_array_equal, found.variables, variables)
  assert found.scores == {"top1": 0.25}
  NETWORK.to_json(tmp_path / "network.json")
  assert pj.load_network(tmp_path / "network.json") == NETWORK
  assert found.network["family"] == NETWORK.family
  assert [path.name for path in tmp_path.glob("variables*")] == [
    "variables.npz"
  ]


def test_leaves_of_your_own(tmp_path):
  """Names with slashes, other types, no elements, a collection less."""
  params = {
    "my/edge": {"a": jnp.arange(3), "none": jnp.zeros((0, 4))},
    "short": jnp.asarray([1.5, -2.0], jnp.bfloat16),
    "scalar": jnp.float32(3.0),
  }
  found = kept({"params": params}, tmp_path).variables
  assert found["batch_stats"] == {}
  assert jax.tree.structure(found["params"]) == jax.tree.structure(params)
  jax.tree.map(np.testing.assert_array_equal, found["params"], params)
  assert found["params"]["my/edge"]["none"].shape == (0, 4)


def test_numpy_reads_it(tmp_path):
  variables = pj.init(pj.build(NETWORK), jax.random.key(0))
  kept(variables, tmp_path)
  kernel = variables["params"]["stem"]["conv_k3"]["conv"]["kernel"]
  with np.load(tmp_path / "variables.npz") as file:
    found = file["params/stem/conv_k3/conv/kernel"]
  np.testing.assert_array_equal(found, kernel)
  assert found.dtype == np.float32
