import matplotlib
import pytest
from matplotlib.text import Text

from proxyless_jax.report.scatter import (
  Entry,
  draw_scatter,
  entries_of,
  make_scatter,
)
from proxyless_jax.report.shapes import RC
from tests.report.extents import check_texts

LOOK = dict(title="a device", unit="ms", note="mean error 1 %")


def draw(folder, predicted, measured, known, **more):
  svg, png = folder / "p.svg", folder / "p.png"
  draw_scatter(predicted, measured, svg, png, known=known, **LOOK, **more)
  return svg.read_text(), png.read_bytes()


def test_dots_and_texts(tmp_path):
  known = {"published": (1.9, 2.1)}
  svg, png = draw(tmp_path, [1.0, 2.0, 3.0], [1.1, 2.0, 2.9], known)
  for text in ("a device", "measured, ms", "mean error 1 %"):
    assert text in svg
  assert "published: error -9.5 %" in svg
  # A dot for each network, and for the known one.
  assert svg.count("<use ") >= 4
  assert png.startswith(b"\x89PNG")


def test_equal_costs_give_equal_files(tmp_path):
  one = draw(tmp_path, [1.0, 2.0], [1.0, 2.0], {})
  assert one == draw(tmp_path, [1.0, 2.0], [1.0, 2.0], {})


@pytest.mark.parametrize("cost", [0.0, 3.0])
def test_one_cost(tmp_path, cost):
  draw(tmp_path, [cost, cost], [cost, cost], {})


def test_warnings_are_shown(tmp_path):
  warning = "this is a long text that needs more than a line of the figure"
  svg, _ = draw(tmp_path, [1.0], [1.0], {}, warnings=[warning])
  assert "! this is a long text" in svg and "the figure<" in svg


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_no_text_lies_on_the_plot_or_another_text(scale):
  # Many networks at one place, whose names could not all stand there.
  known = {
    f"a_published_network_{i}": (2.0 * scale, 2.0 * scale) for i in range(9)
  }
  costs = [i * scale / 7 for i in range(30)]
  entries = entries_of(known, "a note\nof two lines", ["a warning " * 12])
  assert Entry("of two lines") in entries
  with matplotlib.rc_context(RC):
    figure = make_scatter(costs, costs, "a" * 60, "ms", known, entries)
    figure.canvas.draw()
    check_texts(figure)
    plot = figure.axes[0].bbox
    renderer = figure.canvas.get_renderer()
    for text in figure.findobj(Text):
      box = text.get_window_extent(renderer)
      beside = box.x0 >= plot.x1 or box.x1 <= plot.x0
      above = box.y0 >= plot.y1 or box.y1 <= plot.y0
      assert beside or above or not text.get_text()
