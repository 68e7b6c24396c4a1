"""From genotypes to networks of cells."""

import dataclasses

import pytest

from proxyless_jax.space.networks.genotype import Genotype, Style, cell_network

GENOTYPE = Genotype(
  normal="sep_3:0 skip:1",
  normal_outputs=(2, 1),
  reduction="conv_1:1 skip:0",
  reduction_outputs=(2,),
)


def network(
  genotype=GENOTYPE,
  cells=1,
  filters=4,
  size=16,
  stem_reductions=0,
  **style,
):
  return cell_network(
    genotype,
    Style(epsilon=1e-3, **style),
    (size, 3, 5),
    cells=cells,
    filters=filters,
    stem_filters=6,
    stem_reductions=stem_reductions,
  )


def ops(built, prefix):
  return [e.op.name for e in built.layers if e.name.startswith(prefix)]


def test_reductions_halve_the_map_and_double_the_filters():
  built = network(cells=2)
  # Of the last convolution of each cell: 2 normal, 1 reduction, ...
  ends = [cell.nodes[0][0].edges[-1] for cell in built.cells]
  assert [e.size_out for e in ends] == [16, 16, 8, 8, 8, 4, 4, 4]
  assert [e.features_out for e in ends] == [4, 4, 8, 8, 8, 16, 16, 16]
  assert built.layers[-1].features_in == 2 * 16


def test_reductions_of_the_stem_come_first_and_are_narrow():
  built = network(filters=8, size=32, stem_reductions=2)
  ends = [cell.nodes[0][0].edges[-1] for cell in built.cells[:3]]
  assert [e.size_out for e in ends] == [8, 4, 4]
  assert [e.features_out for e in ends] == [2, 4, 8]
  assert built.layers[0].size_out == 16


def test_styles():
  built = network()
  assert ops(built, "cell0_older") == []
  assert ops(built, "cell1_node0_1") == ["relu_conv_bn_1"]
  assert ops(built, "head") == ["relu"]
  built = network(
    strided_skip="relu_reduce",
    last_convs=2,
    raw_first=False,
    relu_head=False,
  )
  assert ops(built, "cell0_older") == ["relu_conv_bn_1"]
  assert ops(built, "cell0_last") == ["relu_conv_bn_1"] * 2
  assert ops(built, "cell1_node0_1") == ["relu_reduce_bn"]
  assert ops(built, "head") == []
  assert ops(network(strided_skip="reduce"), "cell1_node0_1") == ["reduce_bn"]


def test_what_has_another_width_is_projected():
  genotype = dataclasses.replace(
    GENOTYPE, normal="skip:0 avg_3:0\nmax_3:1 sep_5:0", normal_outputs=(0, 3)
  )
  built = network(genotype)
  assert ops(built, "cell0_node0_0") == ["relu_conv_bn_1"]
  assert ops(built, "cell0_node0_1") == ["avg_pool_3", "conv_bn_1"]
  assert ops(built, "cell0_node1_0") == ["max_pool_3"]
  assert ops(built, "cell0_node1_1") == ["relu_sep_bn_5"] * 2
  assert ops(built, "cell0_output") == ["conv_bn_1"]


def test_what_is_wrong_is_refused():
  with pytest.raises(ValueError, match="operation = 'sep_4': expected one of"):
    network(dataclasses.replace(GENOTYPE, normal="sep_4:0 skip:1"))
  with pytest.raises(ValueError, match="cells = 0: expected a positive"):
    network(cells=0)
  with pytest.raises(ValueError, match=r"filters = 4.0: expected a positive"):
    network(filters=4.0)
  with pytest.raises(ValueError, match="filters = 6: expected a multiple of 4"):
    network(filters=6, stem_reductions=2)
  with pytest.raises(ValueError, match="strided_skip = 'pool': expected"):
    network(strided_skip="pool")
