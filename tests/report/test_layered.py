import itertools

import pytest

from proxyless_jax.report.layered import lay_out


def test_neighbours_do_not_overlap_and_a_crossing_is_removed():
  layers = {"a": 0, "b": 0, "c": 1, "d": 1}
  heights = dict.fromkeys(layers, 1.0)
  layout = lay_out(layers, heights, [("a", "d"), ("b", "c")], gap=0.5)
  assert (layout.y["a"] < layout.y["b"]) == (layout.y["d"] < layout.y["c"])
  for one, other in (("a", "b"), ("c", "d")):
    assert abs(layout.y[one] - layout.y[other]) >= 1.5 - 1e-9
  assert layout.height == pytest.approx(2.5)


def test_a_long_edge_passes_beside_the_nodes_between():
  layers = {"a": 0, "b": 1, "c": 2, "d": 3}
  edges = [*itertools.pairwise("abcd"), ("a", "d")]
  layout = lay_out(layers, dict.fromkeys(layers, 1.0), edges, gap=0.2)
  first, second = layout.routes["a", "d"]
  assert abs(first - layout.y["b"]) >= 0.7 - 1e-9
  assert abs(second - layout.y["c"]) >= 0.7 - 1e-9
  # On one side of both, and straight.
  assert first == pytest.approx(second, abs=0.05)
  assert layout.routes["a", "b"] == []


def test_a_chain_is_straight_whatever_its_heights():
  layers = dict(zip("abc", range(3)))
  edges = list(itertools.pairwise("abc"))
  layout = lay_out(layers, dict(zip("abc", (1.0, 3.0, 2.0))), edges, gap=1)
  assert list(layout.y.values()) == pytest.approx([1.5] * 3)
  assert layout.height == pytest.approx(3.0)
