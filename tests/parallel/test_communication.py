"""What eight devices exchange is one path's."""

import pytest

from experiments import communication, hlo
from experiments.kinds import summary
from proxyless_jax.nn.supernet import bank
from proxyless_jax.space import mobile_space
from tests.spaces import small_space

CANDIDATES = ("mbconv3_k3", "mbconv6_k3", "mbconv6_k5", "zero")
LIMIT = 1.02


@pytest.fixture(scope="module")
def space():
  return small_space(
    image_size=8,
    channels=3,
    classes=10,
    stem_width=128,
    widths=(256,),
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
  wide = mobile_space(
    image_size=8, widths=(8, 8), depths=(1, 1), strides=(2, 2)
  )
  paths = communication.uniform_paths(space)
  assert communication.branches_of(space, paths["zero"]) == {2: 1, 3: 0, 4: 3}
  assert communication.parts_of(space, paths["mbconv6_k3"]) == 2
  with pytest.raises(ValueError, match="as many"):
    communication.parts_of(wide, [0, 3])
  with pytest.raises(ValueError, match="same everywhere"):
    communication.branches_of(wide, [0, 1])


def test_a_weight_step_exchanges_what_the_plain_network_does(space, mesh):
  texts = communication.search_programs(space, mesh, ("weight",))
  paths = communication.uniform_paths(space)
  for path in paths["mbconv6_k3"], paths["zero"]:
    row = communication.compare(space, path, mesh, texts["weight"])
    own, plain = (row[side]["by_kind"] for side in ("supernet", "plain"))
    assert own == plain
    assert row["ratio"] == 1.0


def test_arch_steps_exchange_gates_and_batch_norm(space, mesh):
  names = ("arch full", "reinforce")
  texts = communication.search_programs(space, mesh, names)
  full, sampled = (
    summary(hlo.largest(texts[name], 2))["by_kind"] for name in names
  )
  assert full.pop("rest") == communication.gates_bytes(space)
  assert full.pop("scalars") <= 40
  assert full.keys() == {"moments", "other moments", "backward"}
  # Four metrics of each of ten samples.
  assert sampled.pop("rest") == 4 * 4 * 10
  assert sampled.keys() == {"moments", "scalars"}
