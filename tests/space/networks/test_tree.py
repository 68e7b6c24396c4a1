"""PyramidNets with trees: published widths and counts, sizes, refusals."""

import dataclasses
import json
import math
import pathlib

import pytest

import proxyless_jax as pj
from proxyless_jax.space import (
  Edge,
  Identity,
  NormConv,
  NormSepConv,
  Tree,
  Zero,
  network_from_json,
  parse_op,
  tree_space,
)
from proxyless_jax.space.networks.tree import EdgeGraph, tree_graph

ROOT = pathlib.Path(__file__).parents[3]
PUBLISHED = ROOT.parent / "shared" / "reference" / "published_cifar.json"

needs_published = pytest.mark.skipif(
  not PUBLISHED.exists(), reason=f"{PUBLISHED} is not there"
)


def small(**options):
  sizes = dict(image_size=8, stem_width=4, alpha=6, depths=(1, 1))
  return tree_space(**{**sizes, **options})


@needs_published
def test_the_released_network_counts_exactly():
  published = json.loads(PUBLISHED.read_text())
  network = pj.zoo("proxyless_cifar")
  assert pj.parameters(network) == published["parameters"]
  assert pj.macs(network) == published["macs_32"]
  for block, expected in zip(network.blocks, published["blocks"], strict=True):
    assert block.in_bottleneck.features_in == expected["in"]
    assert {edge.features_in for edge in block.edges} == {expected["width"]}
    assert block.final_norm.features_out == expected["out"]
    assert block.conv.stride == expected["stride"]
    names = [[edge.op.name for edge in level] for level in block.levels]
    assert names == [expected["level2"], expected["level3"]]


def test_the_released_network_is_of_the_default_space():
  space, network = tree_space(), pj.zoo("proxyless_cifar")
  assert (len(space.blocks), len(space.edges)) == (54, 54 * 12)
  assert space.log10_size == pytest.approx(648 * math.log10(7))
  assert round(space.log10_size, 1) == 547.6
  assert space.choose([edge.op.name for edge in network.edges]) == network
  assert pj.parameters(network) == 5_731_530
  assert pj.macs(network) == 1_213_155_872
  table = pj.cost_table("macs", space)
  assert table.exact(network) == pj.macs(network)


def test_a_space_goes_through_json():
  space = small(candidates=("identity", "dil_conv_3", "max_pool_3"))
  assert network_from_json(space.to_json()) == space
  assert hash(network_from_json(space.to_json())) == hash(space)


@pytest.mark.parametrize(
  ("halves", "levels", "branches", "names"),
  [
    (1, 1, 1, ["0_0"]),
    (2, 1, 2, ["0_0", "0_1", "1_0", "1_1"]),
    (3, 1, 1, ["0_0", "1_0", "2_0"]),
    (1, 2, 2, ["0_0", "0_1", "0_0_0", "0_0_1", "0_1_0", "0_1_1"]),
    (2, 3, 1, ["0_0", "1_0", "0_0_0", "1_0_0", "0_0_0_0", "1_0_0_0"]),
  ],
)
def test_forms_of_trees(halves, levels, branches, names):
  space = small(halves=halves, levels=levels, branches=branches)
  for block in space.blocks:
    found = [edge.name.partition("_edge")[2] for edge in block.edges]
    assert found == names
    assert len(block.levels) == levels
    assert sum(block.levels, ()) == block.edges
    assert len(block.branch_norms) == halves
    # Alike, so that a supernet may compile them once.
    assert len({dataclasses.replace(e, name="any") for e in block.edges}) == 1


def test_widths_grow_to_alpha_in_multiples_of_the_halves():
  space = tree_space(stem_width=8, alpha=10, depths=(2, 3), halves=3, expand=2)
  widths = [block.edges[0].features_in for block in space.blocks]
  # 10, 12, 14, 16 and 18, down to multiples of 3.
  assert widths == [9, 12, 12, 15, 18]
  assert [b.final_norm.features_out for b in space.blocks] == [
    2 * width for width in widths
  ]
  assert [b.conv.stride for b in space.blocks] == [1, 1, 2, 1, 1]
  assert [b.final_norm.size for b in space.blocks] == [32, 32, 16, 16, 16]


def test_the_shuffle_is_an_argument():
  with_, without = small(), small(shuffle=False)
  names = [space.blocks[0].conv.op.name for space in (with_, without)]
  assert names == ["norm_relu_conv_k3_g2_shuffle", "norm_relu_conv_k3_g2"]
  chosen = [space.choose([0] * 24) for space in (with_, without)]
  assert pj.parameters(chosen[0]) == pj.parameters(chosen[1])
  assert pj.macs(chosen[0]) == pj.macs(chosen[1])
  # One group has nothing to mix with.
  assert small(halves=1).blocks[0].conv.op == NormConv(3)


def test_choosing_keeps_the_rest():
  space = small()
  network = space.choose([i % 7 for i in range(24)])
  assert isinstance(network, Tree) and network.is_architecture
  assert [e.op for e in network.edges] == [
    e.ops[i % 7] for i, e in enumerate(space.edges)
  ]
  assert network.with_edges(space.edges) == space
  assert [e.name for e in network.layers] == [e.name for e in space.layers]


def test_counts_by_hand():
  edge = Edge("edge", (NormSepConv(3),), 6, 6, 1, 4)
  assert NormSepConv(3).parameters(edge) == 2 * 6 + 9 * 6 + 36
  assert NormSepConv(3).macs(edge) == 16 * (9 * 6 + 36)
  assert NormSepConv(3, True).macs(edge) == NormSepConv(3).macs(edge)
  edge = Edge("edge", (NormConv(3, groups=2),), 6, 12, 2, 5)
  assert edge.op.parameters(edge) == 2 * 6 + 9 * 3 * 12
  assert edge.op.macs(edge) == 3**2 * 9 * 3 * 12


@pytest.mark.parametrize(
  "op",
  [
    *(NormConv(1, relu=False), NormConv(1), NormConv(3, groups=2)),
    NormConv(3, groups=3, shuffle=True),
    *(NormSepConv(3), NormSepConv(7), NormSepConv(3, dilated=True)),
  ],
  ids=lambda op: op.name,
)
def test_names_round_trip(op):
  assert parse_op(op.name) == op


def test_names_are_the_papers():
  assert [op.name for op in tree_space().edges[0].ops] == [
    "identity",
    "sep_conv_3",
    "sep_conv_5",
    "sep_conv_7",
    "dil_conv_3",
    "max_pool_3",
    "avg_pool_3",
  ]


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"image_size": 0}, "image_size = 0: expected a positive integer"),
    ({"image_size": (1, 9)}, r"image_size = \(1, 9\): expected at least"),
    ({"levels": 0}, "levels = 0: expected a positive"),
    ({"branches": 1.5}, "branches = 1.5: expected a positive"),
    ({"depths": ()}, r"depths = \(\): expected one entry per stage"),
    ({"depths": (1, 0)}, r"depths\[1\] = 0: expected a positive integer"),
    ({"depths": (1,) * 5}, "image_size = 8: expected at least 9, for 5 stages"),
    ({"alpha": -1}, "alpha = -1: expected an integer of 0 or more"),
    ({"stem_width": 1}, "stem_width = 1: expected 2 or more"),
    ({"expand": 1, "stem_width": 5, "alpha": 0}, "'block01_in': expected .* 4"),
    ({"candidates": "identity"}, "candidates = 'identity': expected a tuple"),
    ({"candidates": None}, "candidates = None: expected a tuple of names"),
    ({"depths": 3}, "depths = 3: expected a tuple of integers"),
    ({"depths": None}, "depths = None: expected a tuple of integers"),
    ({"candidates": ("sep_conv_4",)}, "'sep_conv_4': kernel = 4: expected an"),
    ({"candidates": ("conv",)}, "unknown operation 'conv'"),
    ({"candidates": ("zero",)}, "'zero' would cut the network in two"),
    ({"candidates": ()}, "expected one or more different operations"),
    ({"shuffle": 2}, "shuffle = 2: expected True or False"),
  ],
)
def test_refusals(options, message):
  with pytest.raises(ValueError, match=message):
    small(**options)


def test_groups_must_divide_the_channels():
  with pytest.raises(ValueError, match="features_in to be a multiple of 2"):
    Edge("edge", (NormConv(3, groups=2),), 3, 4, 1, 8)
  with pytest.raises(ValueError, match="features_out to be a multiple of 2"):
    Edge("edge", (NormConv(3, groups=2),), 4, 3, 1, 8)
  with pytest.raises(ValueError, match="groups = 0: expected a positive"):
    NormConv(3, groups=0)
  with pytest.raises(ValueError, match="shuffle = True: expected groups = 2"):
    NormConv(3, shuffle=True)
  with pytest.raises(ValueError, match="shuffle = 'no': expected True or"):
    NormConv(3, groups=2, shuffle="no")


@pytest.mark.parametrize(
  ("field", "change", "message"),
  [
    ("in_bottleneck", {"features_out": 8}, "'block01_conv': features_in = 6"),
    ("conv", {"features_out": 16}, "features_out = 16: expected 12"),
    ("conv", {"stride": 2}, "'block01_edge0_0': size = 8: expected 4"),
    ("out_bottleneck", {"size": 4}, "'block01_out': size = 4: expected 8"),
    ("final_norm", {"size": 4}, "'block01_final_norm': size = 4: expected 8"),
    ("conv", {"ops": (NormConv(1), NormConv(3))}, "2 candidates"),
  ],
)
def test_edges_of_a_block_must_fit(field, change, message):
  block = small().blocks[0]
  edge = dataclasses.replace(getattr(block, field), **change)
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(block, **{field: edge})


def test_trees_must_be_whole_and_keep_the_shape():
  block = small().blocks[0]
  with pytest.raises(
    ValueError, match="edges = 11: expected whole levels of 2"
  ):
    dataclasses.replace(block, edges=block.edges[:-1])
  with pytest.raises(ValueError, match="edges = 0: expected whole levels"):
    dataclasses.replace(block, edges=())
  with pytest.raises(ValueError, match="branches = 0: expected a positive"):
    dataclasses.replace(block, branches=0)
  with pytest.raises(ValueError, match=r"branch_norms = .*: expected one or"):
    dataclasses.replace(block, branch_norms=())
  wide = dataclasses.replace(
    block.edges[0], ops=(NormSepConv(3),), features_out=8
  )
  with pytest.raises(ValueError, match="'block01_edge0_0': expected stride 1"):
    dataclasses.replace(block, edges=(wide, *block.edges[1:]))
  short = dataclasses.replace(
    block.edges[0], ops=(Zero(), Identity()), shortcut=True
  )
  with pytest.raises(ValueError, match="and no shortcut in a tree"):
    dataclasses.replace(block, edges=(short, *block.edges[1:]))


def test_parts_of_a_network_must_fit():
  space = small()
  with pytest.raises(ValueError, match="'block02_in': features_in = 24"):
    dataclasses.replace(space, blocks=space.blocks[1:])
  with pytest.raises(ValueError, match=r"before = \(\): expected one or more"):
    dataclasses.replace(space, before=())
  with pytest.raises(ValueError, match="edge names = "):
    dataclasses.replace(space, blocks=space.blocks[:1] * 2)
  with pytest.raises(ValueError, match=r"blocks = .*: expected a tuple of"):
    dataclasses.replace(space, blocks=list(space.blocks))


def test_errors_of_files_name_the_field():
  data = json.loads(small().to_json())
  data["blocks"][1]["branches"] = "2"
  with pytest.raises(ValueError, match=r"blocks\[1\]: branches = '2'"):
    network_from_json(json.dumps(data))


def test_trees_are_graphs_level_by_level():
  assert tree_graph(2, 2, 12) == EdgeGraph(
    inputs=2,
    inner=4,
    outputs=2,
    sources=(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5),
    targets=(2, 3, 4, 5, 6, 6, 6, 6, 7, 7, 7, 7),
  )
  assert tree_graph(1, 3, 3) == EdgeGraph(1, 0, 1, (0, 0, 0), (1, 1, 1))
