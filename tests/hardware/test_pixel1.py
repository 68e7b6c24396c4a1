"""The phone's table: the sums that others report, and what it lacks."""

import pytest

from proxyless_jax.hardware import cost_table
from proxyless_jax.space import Edge, MBConv, mobile_space
from proxyless_jax.space.zoo import zoo

SPACE = mobile_space()
# Blocks that MobileNetV2 uses of each stage of 4, 4, 4, 4, 4, 1.
USED = (2, 3, 4, 3, 3, 1)


def mobilenet_v2():
  names = []
  for depth, used in zip((4, 4, 4, 4, 4, 1), USED):
    names += ["mbconv6_k3"] * used + ["zero"] * (depth - used)
  return names


@pytest.mark.parametrize(
  "names, milliseconds",
  [
    (mobilenet_v2(), 100.1903),
    (["mbconv3_k3"] * 21, 76.0482),
    (["mbconv6_k7"] * 21, 191.0298),
  ],
)
def test_sums_over_networks(names, milliseconds):
  table = cost_table("pixel1", SPACE)
  assert table.unit == "ms" and "Pixel 1" in table.source
  found = table.exact(SPACE.choose(names))
  assert found == pytest.approx(milliseconds, abs=1e-3)


def test_the_fixed_part_is_stem_first_block_head_and_classifier():
  table = cost_table("pixel1", SPACE)
  assert table.fixed == pytest.approx(4.0838 + 3.8821 + 3.0886 + 0.3096)
  assert table.costs[0, 0] == 6.2406
  assert table.costs[1, table.ops[1].index("zero")] == 0.0


def test_all_blocks_that_were_not_measured_are_listed():
  with pytest.raises(ValueError) as error:
    cost_table("pixel1", mobile_space(widths=(24, 48, 80, 96, 192, 320)))
  message = str(error.value)
  assert "block01" not in message
  for name in ("block05/mbconv3_k3", "block08/mbconv6_k7", "block09/mbconv3_k"):
    assert name in message
  assert "mbconv 28x28x48 28x28x48 3 3 1 1" in message


@pytest.mark.parametrize(
  "space, missing",
  [
    (dict(image_size=192), "stem/conv_k3"),
    (dict(image_size=(224, 192)), r"mbconv 112x96x16 56x48x24 3 3 2 0"),
    (dict(classes=10), r"classifier/classifier \(classifier 7x7x1280 10\)"),
    (dict(candidates=("mbconv3_k3", "mbconv4_k3")), "block21/mbconv4_k3"),
    (dict(candidates=("mbconv3_k3", "mbconv3_k3_se4")), r"se4 \(no such layer"),
  ],
)
def test_other_spaces(space, missing):
  with pytest.raises(ValueError, match=f"table pixel1 lacks .*{missing}"):
    cost_table("pixel1", mobile_space(**space))


def test_a_published_network_of_other_widths():
  with pytest.raises(ValueError, match="table pixel1 lacks"):
    cost_table("pixel1", zoo("proxyless_cpu"))


def test_a_block_with_the_shapes_but_without_the_shortcut():
  from proxyless_jax.hardware.pixel1 import _key, _rows

  op = MBConv(3, 3)
  edges = [
    Edge("a", (op,), 24, 24, 1, 56, shortcut=shortcut)
    for shortcut in (True, False)
  ]
  assert [_key(op, edge) in _rows() for edge in edges] == [True, False]
  assert len(_rows()) == 72
