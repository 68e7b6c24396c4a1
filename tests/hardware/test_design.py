import pytest

import proxyless_jax as pj
from proxyless_jax.hardware.design import (
  TAKEN_OVER,
  blocks_of,
  draw_networks,
  is_of,
  published_in,
)


def test_equal_blocks_are_one(space):
  blocks = blocks_of(space)
  # The first has a stride and no 'zero'; the others are alike.
  assert [len(edge.ops) for edge in space.edges] == [3, 4, 4]
  assert len(blocks) == 3 + 3
  assert all(op.name != "zero" for block in blocks for op in block.ops)
  assert {block.name for block in blocks} == {"block"}
  mobile = pj.mobile_space()
  assert sum(len(edge.ops) for edge in mobile.edges) == 6 * 6 + 15 * 7
  assert len(blocks_of(mobile)) == 6 * 6 + 5 * 6


def test_draws(space):
  networks = draw_networks(space, 20, 0)
  assert networks == draw_networks(space, 20, 0)
  assert networks != draw_networks(space, 20, 1)
  assert len(set(networks)) == 20
  assert all(is_of(network, space) for network in networks)
  others = draw_networks(space, 20, 0, tuple(networks))
  assert not set(networks) & set(others)
  with pytest.raises(ValueError, match="about 48 architectures: expected"):
    draw_networks(space, 49, 0)


def test_draws_lie_all_over_the_range():
  space = pj.mobile_space(image_size=32)
  table = pj.cost_table("macs", space)
  costs = [table.exact(network) for network in draw_networks(space, 50, 0)]
  covered = (max(costs) - min(costs)) / (table.max_cost - table.min_cost)
  assert covered > 0.4


def test_published_networks_as_architectures_of_a_space():
  space = pj.mobile_space(image_size=64, classes=10)
  found = published_in(space)
  names = ["proxyless_cpu", "proxyless_gpu", "proxyless_mobile", "mobilenet_v2"]
  assert list(found) == [f"{name} {TAKEN_OVER}" for name in names]
  assert all(is_of(network, space) for network in found.values())
  gpu = found[f"proxyless_gpu {TAKEN_OVER}"]
  assert [e.op for e in gpu.edges] == [
    e.op for e in pj.zoo("proxyless_gpu").edges
  ]


def test_mobilenet_v2_on_the_phone():
  # The published figure of the phone's table.
  space = pj.mobile_space()
  network = published_in(space)[f"mobilenet_v2 {TAKEN_OVER}"]
  cost = pj.cost_table("pixel1", space).exact(network)
  assert cost == pytest.approx(100.19, abs=0.01)


def test_networks_of_a_space_keep_their_names(space):
  widths = [e.features_out for e in pj.zoo("proxyless_mobile").edges]
  like = pj.mobile_space(
    image_size=32, classes=4, widths=tuple(dict.fromkeys(widths))
  )
  found = published_in(like)
  assert "proxyless_mobile" in found
  assert len(set(found.values())) == len(found)
  assert published_in(space) == {}
