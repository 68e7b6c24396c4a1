import dataclasses
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import matplotlib
import pytest
from matplotlib.image import imread

from proxyless_jax.report import draw_architecture
from proxyless_jax.report.figure import RC
from proxyless_jax.report.tree_diagram import codes
from proxyless_jax.space import ConvBN, Op, mobile_space, tree_space
from proxyless_jax.space.zoo import zoo


def two_stages(**changes):
  settings = {
    "image_size": 28,
    "channels": 1,
    "classes": 10,
    "stem_width": 16,
    "stem_stride": 1,
    "first_width": 0,
    "widths": (16, 32),
    "depths": (3, 2),
    "strides": (2, 2),
    "head_width": 64,
  }
  return mobile_space(**settings | changes)


CHOICES = ["mbconv3_k3", "zero", "mbconv6_k5", "mbconv3_k7", "mbconv6_k3"]


def draw(network, folder):
  """The texts of the SVG in order, and the PNG's height and width."""
  svg, png = folder / "net.svg", folder / "net.png"
  draw_architecture(network, svg, png)
  root = ElementTree.fromstring(svg.read_text())
  texts = ["".join(t.itertext()) for t in root.iter() if t.tag.endswith("text")]
  return texts, imread(png).shape[:2]


def test_the_figure_tells_the_network(tmp_path):
  texts, _ = draw(two_stages().choose(CHOICES), tmp_path)
  text = " ".join(texts)
  assert "5 blocks, 1 skipped  ·  30.8K parameters  ·  3.15M MACs" in text
  assert re.findall(r"MB\d(?=\s)", text) == ["MB3", "MB6", "MB3", "MB6"]
  assert text.count("skip ") == 1
  for size in ("28×28", "14×14", "7×7"):
    assert size in text
  for width in ("16", "32", "64", "10"):
    assert width in texts
  for entry in ("not searched", "skipped", "stride 2", "height: expansion"):
    assert entry in texts


def test_rectangular_images(tmp_path):
  texts, _ = draw(two_stages(image_size=(28, 50)).choose(CHOICES), tmp_path)
  text = " ".join(texts)
  for size in ("28×50", "14×25", "7×13"):
    assert size in text
  trees = tree_space(image_size=(8, 12), depths=(1, 1)).choose([0] * 24)
  texts, _ = draw(trees, tmp_path)
  assert "8×12" in texts and "4×6" in texts


def test_the_legend_has_only_what_occurs(tmp_path):
  space = two_stages(depths=(1, 1), strides=(1, 1))
  text = " ".join(draw(space.choose(["mbconv3_k3"] * 2), tmp_path)[0])
  assert "5×5" not in text
  for entry in ("skip", "stride", "height: expansion"):
    assert entry not in text


def test_long_networks_wrap_into_rows(tmp_path):
  _, (_, one_row) = draw(two_stages().choose(CHOICES), tmp_path)
  network = mobile_space(depths=(10,) * 6).choose([0] * 60)
  texts, (height, width) = draw(network, tmp_path)
  assert sum(text == "MB3" for text in texts) == 60
  assert width < 2 * one_row
  assert height > 1000


def test_a_break_falls_between_stages(tmp_path):
  texts, _ = draw(mobile_space().choose([0] * 21), tmp_path)
  # A stage that were cut would show its width in both rows.
  for width in ("24", "40", "80", "96", "192", "320"):
    assert texts.count(width) == 1


def test_the_legend_spells_out_abbreviations(tmp_path):
  texts, _ = draw(two_stages().choose(CHOICES), tmp_path)
  assert "kernel 5×5" in texts and "MB3, MB6: MBConv, expansion 3, 6" in texts
  texts, _ = draw(zoo("mnasnet_a1"), tmp_path)
  assert texts.count("MB6 SE") == 5
  assert "SE: squeeze-and-excitation" in texts


def test_a_number_that_is_no_kernel(tmp_path):
  texts, _ = draw(zoo("densenet_bc"), tmp_path)
  assert not any("4×4" in text for text in texts)


def test_few_blocks_with_trees_are_drawn_in_full(tmp_path):
  space = tree_space(image_size=16, depths=(1, 1), alpha=8, classes=7)
  choices = [i % 7 for i in range(24)]
  texts, (height, width) = draw(space.choose(choices), tmp_path)
  text = " ".join(texts)
  assert "Block 1: 16×16, 16 → 80 channels" in texts
  assert "conv 3×3 in 2 groups, shuffled, stride 2, 24 → 48" in texts
  assert texts.count("20 channels") == 2
  assert texts.count("norm") == 6
  # Every edge, and the entries of the legend.
  assert text.count("max pool") == 1 + choices.count(5)
  assert "shortcut, average pooling, zeros for new channels" in texts
  assert width < 2 * height


def test_many_blocks_with_trees(tmp_path):
  network = zoo("proxyless_cifar")
  texts, _ = draw(network, tmp_path)
  text = " ".join(texts)
  assert "54 blocks, 648 edges  ·  5.73M parameters  ·  1.21G MACs" in text
  assert "Block 1: 32×32, 16 → 72 channels" in texts
  assert "block 54, 100 channels per tree" in texts
  assert "s5 = sep conv 5×5" in texts
  names = [edge.op.name for edge in network.edges]
  assert texts.count("s5") == names.count("sep_conv_5")
  # And how many edges of each stage.
  counts = re.findall(r"s5: (\d+)", text)
  assert sum(map(int, counts)) == names.count("sep_conv_5")


def test_each_kind_of_cell_has_a_diagram(tmp_path):
  texts, _ = draw(zoo("darts"), tmp_path)
  assert any(text.startswith("20 cells  ·  3.35M par") for text in texts)
  assert "Normal cell: cells 0–5, 7–12, 14–19" in texts
  assert "Reduction cell: cells 6, 13" in texts
  assert texts.count("2 × sep conv 3×3") == 5
  # In the legend, too.
  assert texts.count("dil conv 3×3") == texts.count("max pool 3×3") - 4 == 2
  assert texts.count("identity") == 6
  texts, _ = draw(zoo("nasnet_a_cifar"), tmp_path)
  assert "Normal cell: cell 0" in texts


def test_codes_of_operations_differ():
  ops = [Named(f"{name}_conv_5") for name in ("sep", "sum", "sep_new")]
  ops = {op.name: op for op in (*ops, Named("same"), Named("5"))}
  assert list(codes(ops).values()) == ["s5", "su5", "se5", "s", "5"]


def test_equal_networks_give_equal_files(tmp_path):
  before = [matplotlib.rcParams[name] for name in RC]
  for name in ("a", "b"):
    (tmp_path / name).mkdir()
    draw(two_stages().choose(CHOICES), tmp_path / name)
  for file in ("net.svg", "net.png"):
    one, other = (tmp_path / n / file for n in ("a", "b"))
    assert one.read_bytes() == other.read_bytes()
  assert [matplotlib.rcParams[name] for name in RC] == before


@dataclasses.dataclass(frozen=True)
class Named(Op):
  """An operation of which the figure knows the name alone."""

  name: str = ""

  def parameters(self, edge):
    return 1

  def macs(self, edge):
    return 1


@pytest.mark.parametrize(
  ("op", "expected"),
  [
    (Named("sep_conv_5"), ["sep conv", "5×5"]),
    (Named("max_pool_3"), ["max pool", "3×3"]),
    (Named("identity"), ["identity"]),
    (ConvBN(9), ["conv", "9×9"]),
  ],
)
def test_operations_of_any_family(tmp_path, op, expected):
  space = two_stages(candidates=(op,))
  texts, _ = draw(space.choose([0] * 5), tmp_path)
  for text in expected:
    assert sum(text in found for found in texts) >= 5


def test_a_space_shows_the_candidates_of_each_edge(tmp_path):
  space = two_stages()
  texts, _ = draw(space, tmp_path)
  assert "5 blocks  ·  12,348 architectures" in texts
  counts = [text for text in texts if text == "MB6 5×5"]
  assert len(counts) == 5
  keep = sum(op.name == "zero" for edge in space.edges for op in edge.ops)
  assert texts.count("skip") == keep
  assert "MB3, MB6: MBConv, expansion 3, 6" in texts


def test_operations_of_equal_words_have_their_names_in_the_legend(tmp_path):
  candidates = ("norm_conv_k3", "norm_relu_conv_k3", "sep_conv_3")
  space = tree_space(image_size=16, depths=(1,), candidates=candidates)
  texts, _ = draw(space, tmp_path)
  for text in ("norm conv k3", "norm relu conv k3", "sep conv 3×3"):
    assert text in texts


def test_a_space_of_trees_shows_one_block_where_all_are_alike(tmp_path):
  space = tree_space(image_size=16, depths=(4, 4))
  texts, _ = draw(space, tmp_path)
  assert "the other blocks: as the first one" in texts
  assert "8 blocks, 96 edges  ·  about 10⁸¹ architectures" in texts
  # In the legend, too.
  assert texts.count("sep conv 5×5") == 12 + 1
  names = ["identity", *["sep_conv_3"] * (len(space.edges) - 1)]
  partly = dataclasses.replace(
    space,
    blocks=(space.choose(names).blocks[0], *space.blocks[1:]),
  )
  texts, _ = draw(partly, tmp_path)
  assert "s5 = sep conv 5×5" in texts
  assert sum(text.startswith("block ") for text in texts) == 8


def test_imports_are_late_and_leave_no_global_state(tmp_path):
  script = f"""
import sys
from proxyless_jax import report, space
assert not {{"matplotlib", "tensorboardX"}} & set(sys.modules)
network = space.mobile_space(depths=(1,), widths=(8,), strides=(1,))
report.draw_architecture(
  network.choose([0]), {str(tmp_path / "a.svg")!r}, {str(tmp_path / "a.png")!r}
)
assert "matplotlib.pyplot" not in sys.modules
"""
  subprocess.run([sys.executable, "-c", script], check=True)
