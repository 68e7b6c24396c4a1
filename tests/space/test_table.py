"""print(network): a short table for people."""

import dataclasses

import pytest

import proxyless_jax as pj
from proxyless_jax.space.networks.chain import ChainBuilder
from proxyless_jax.space.ops.mobile import ConvBN, Zero
from proxyless_jax.space.table import edge_table


def small():
  chain = ChainBuilder(3, (8, 12))
  stem = chain.add("stem", (ConvBN(3),), 4, stride=2)
  ops = (ConvBN(1), ConvBN(3), Zero())
  searched = chain.add("searched", ops, 4, shortcut=True)
  return pj.Chain((stem,), (searched,), (chain.add_classifier(5),))


def test_a_space_shows_candidates_and_ranges():
  assert str(small()).splitlines() == [
    "Chain of 8x12x3 images, 5 classes: 3 architectures",
    "edge        operation                width   stride  size  parameters"
    "       MACs",
    "stem        conv_k3                  3 -> 4       2  8x12         116"
    "      2,592",
    "searched    3 candidates + shortcut  4 -> 4       1   4x6     0 - 152"
    "  0 - 3,456",
    "classifier  classifier               4 -> 5       1   4x6          25"
    "         20",
  ]


def test_an_architecture_shows_its_operations_and_totals():
  network = small().choose(["conv_k3"])
  first, _, *lines = str(network).splitlines()
  assert first.endswith("5 classes: 293 parameters, 6,068 MACs")
  assert "conv_k3 + shortcut" in lines[1]
  assert (pj.parameters(network), pj.macs(network)) == (293, 6068)


@pytest.mark.parametrize("name", pj.list_networks())
def test_no_published_network_fills_the_screen(name):
  text = str(pj.zoo(name))
  lines = text.splitlines()
  assert len(lines) <= 20 and len(text) < 3000
  assert lines[-1].startswith("classifier") and lines[2].startswith("stem")


def test_large_spaces_say_their_size_as_a_power_and_cut_the_middle():
  text = str(pj.mobile_space())
  assert "10^17.3 architectures" in text
  assert "\n... 8 more\n" in text and "block19" in text
  assert len(text) < 3000


def test_long_names_are_cut():
  edge = dataclasses.replace(small().edges[0], name="x" * 100)
  assert len(edge_table([edge] * 50)) < 3000


def test_repr_stays_what_makes_the_network():
  assert repr(small()).startswith("Chain(before=(Edge(name='stem'")
