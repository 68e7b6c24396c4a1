"""The zoo: every network counts as published, and goes through JSON."""

import dataclasses
import json
import pathlib

import pytest

import proxyless_jax as pj
from proxyless_jax.space import (
  Chain,
  Classifier,
  ConvBN,
  Edge,
  MBConv,
  Zero,
  network_from_json,
)
from proxyless_jax.space.zoo import NETWORKS

ROOT = pathlib.Path(__file__).parents[3]
REFERENCE = ROOT.parent / "shared" / "reference"
PUBLISHED = REFERENCE / "published_imagenet.json"


# Parameters, and MACs of a 224x224 (CIFAR: 32x32) image; of the released files.
COUNTS = {
  "proxyless_cpu": (4_361_648, 439_243_864),
  "proxyless_gpu": (7_119_848, 465_260_160),
  "proxyless_mobile": (4_080_512, 320_427_584),
  "proxyless_mobile_14": (6_857_568, 580_883_408),
  "proxyless_cifar": (5_731_530, 1_213_155_872),
}


@pytest.mark.parametrize("name", COUNTS)
def test_released_networks_count_exactly(name):
  network = pj.zoo(name)
  assert (pj.parameters(network), pj.macs(network)) == COUNTS[name]


def _published(network):
  """An ImageNet network from its description: 'zero' keeps the width."""
  features, size = network["stem_channels"], 112
  before = [Edge("stem", (ConvBN(3),), 3, features, 2, 224)]
  edges = []
  for i, block in enumerate(network["blocks"]):
    if block == "zero":
      op, out, stride, shortcut = Zero(), features, 1, True
    else:
      assert block["in"] == features
      op = MBConv(block["expand"], block["kernel"])
      out, stride = block["out"], block["stride"]
      shortcut = block["residual"]
    edge = Edge(f"block{i:02d}", (op,), features, out, stride, size, shortcut)
    edges.append(edge)
    features, size = out, edge.size_out
  width = network["head_channels"]
  head = Edge("head", (ConvBN(1),), features, width, 1, size)
  classifier = Edge("classifier", (Classifier(),), width, 1000, 1, size)
  return Chain(tuple(before), tuple(edges), (head, classifier))


@pytest.mark.skipif(not PUBLISHED.exists(), reason=f"{PUBLISHED} is not there")
@pytest.mark.parametrize("name", ["cpu", "gpu", "mobile", "mobile_14"])
def test_released_imagenet_networks_are_as_described(name):
  described = _published(json.loads(PUBLISHED.read_text())[name])
  layers = pj.zoo(f"proxyless_{name}").layers
  assert len(layers) == len(described.layers)
  for ours, theirs in zip(layers, described.layers):
    assert dataclasses.replace(ours, name=theirs.name) == theirs


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_goes_through_json(name):
  network = pj.zoo(name)
  assert network.is_architecture
  assert network_from_json(network.to_json()) == network


@pytest.mark.parametrize("size, sides", [(64, (64, 64)), ((64, 40), (64, 40))])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_for_any_images(name, size, sides):
  network = pj.zoo(name, image_size=size, channels=1, classes=7)
  assert network.image_size == size and network.image_shape == (*sides, 1)
  assert network.classes == 7
  assert network_from_json(network.to_json()) == network


def test_an_invalid_size_is_named():
  for name in ("resnet_18", "darts", "proxyless_cifar", "proxyless_gpu"):
    with pytest.raises(
      ValueError, match=r"^image_size = \(64,\): expected a pos"
    ):
      pj.zoo(name, image_size=(64,))


def test_unknown_names_and_options_are_refused():
  match = "'proxyles_GPU': no published .*; did you mean 'proxyless_gpu'"
  with pytest.raises(ValueError, match=match):
    pj.zoo("proxyles_GPU")
  for name in ("alexnet", None, ["resnet_18"]):
    with pytest.raises(ValueError, match=r"expected one of amoebanet_b, darts"):
      pj.zoo(name)
  with pytest.raises(ValueError, match=r"\['image_sise'\]; .* 'image_size'\?"):
    pj.zoo("resnet_18", image_sise=32)
  with pytest.raises(ValueError, match=r"unknown options \['width'\]; known:"):
    pj.zoo("proxyless_gpu", width=2)


def test_names_of_networks_as_a_list():
  names = pj.list_networks()
  assert names == sorted(NETWORKS) and "proxyless_gpu" in names
  assert pj.list_networks("resnet*") == ["resnet_18", "resnet_34"]
  assert pj.list_networks("*_cifar") == ["nasnet_a_cifar", "proxyless_cifar"]
  assert pj.list_networks("vgg*") == []
  with pytest.raises(ValueError, match="pattern = 3: expected a text"):
    pj.list_networks(3)
