"""On 8 devices: `test_devices.py` runs these where there is one."""

import jax
import pytest

from experiments import communication
from proxyless_jax.nn import bank
from proxyless_jax.nn.parallel import DATA
from proxyless_jax.space import mobile_space

needs_devices = pytest.mark.skipif(
  "len(__import__('jax').devices()) < 8", reason="needs 8 devices"
)
CANDIDATES = ("mbconv3_k3", "mbconv6_k5", "zero")
LIMIT = 1.02


@pytest.fixture(scope="module")
def mesh():
  return jax.sharding.Mesh(jax.devices(), (DATA,))


@pytest.fixture(scope="module")
def space():
  return mobile_space(
    image_size=8,
    classes=10,
    stem_width=32,
    stem_stride=1,
    first_width=128,
    widths=(256,),
    depths=(2,),
    strides=(2,),
    candidates=CANDIDATES,
    head_width=64,
  )


def channels(space, path):
  """Of all batch norms on the searched edges."""
  lengths = (
    bank.layout(edge.ops[i], bank.nameless(edge), "batch_stats").length
    for edge, i in zip(space.edges, path)
    if len(edge.ops) > 1
  )
  return sum(lengths) // 2


def test_a_path_that_differs_between_edges_is_an_error(space):
  paths = communication.uniform_paths(space)
  path = [paths["mbconv3_k3"][0], *paths["mbconv6_k5"][1:]]
  counts = [len(edge.ops) for edge in space.edges]
  assert counts == [2, 3]
  assert communication.branches_of(space, path) == {2: 0, 3: 1}
  with pytest.raises(ValueError, match="same everywhere"):
    communication.branches_of(space.choose(path), [0, 1])
