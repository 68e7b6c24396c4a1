"""Figures of architectures and spaces: title and legend above a picture.

`drawing` is a `functools.singledispatch` on the family of the network, which
makes the picture: `chain_figure`, `tree_figure`, `cell_figure`. All lengths are
in inches.
"""

from __future__ import annotations

import functools
import math
import os
from typing import TYPE_CHECKING

from proxyless_jax.report.cell_figure import draw_cells
from proxyless_jax.report.chain_figure import draw_chain
from proxyless_jax.report.progress import format_value
from proxyless_jax.report.shapes import (
  HEADER,
  LEGEND_ROW,
  MARGIN,
  RC,
  Drawing,
  draw_legend,
  legend_rows,
  legend_width,
  write,
)
from proxyless_jax.report.tree_figure import draw_trees
from proxyless_jax.space import CellNetwork, Network, Tree, macs, parameters

if TYPE_CHECKING:
  from matplotlib.figure import Figure

RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
NARROWEST = 6.5  # Of the rows of a legend.


def draw_architecture(
  network: Network, path_svg: str | os.PathLike, path_png: str | os.PathLike
) -> None:
  """Draws an architecture, or a search space, of any family, as SVG and PNG.

  Args:
    network: network with one candidate per edge, or a space: the boxes of its
      edges have a row for each candidate.
    path_svg, path_png: paths of the files to write; equal networks give equal
      files.
  """
  # Imported here, and without pyplot: that holds global state and windows.
  import matplotlib

  with matplotlib.rc_context(RC):
    figure = make_figure(network)
    figure.savefig(path_svg, format="svg", metadata={"Date": None})
    figure.savefig(path_png, format="png", dpi=160)


def make_figure(network: Network) -> Figure:
  """The figure of a network; the caller sets matplotlib's `RC`."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  contents, legend, content, height, draw = drawing(network)
  title = "  ·  ".join([contents, *_counts(network)])
  content = max(content, 0.12 * len(title))
  rows = legend_rows(legend, max(content, NARROWEST))
  content = max(content, *map(legend_width, rows))
  header = HEADER + (len(rows) - 1) * LEGEND_ROW
  width, height = 2 * MARGIN + content, header + height
  figure = Figure(figsize=(width, height), facecolor="white")
  FigureCanvasAgg(figure)
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set(xlim=(0, width), ylim=(0, height))
  axes.set_axis_off()
  write(axes, MARGIN, height - 0.3, title, 12, ha="left", weight="bold")
  for i, row in enumerate(rows):
    draw_legend(axes, row, height - 0.68 - i * LEGEND_ROW)
  draw(axes, height - header)
  return figure


def _counts(network: Network) -> list[str]:
  if not network.is_architecture:
    size = math.prod(len(edge.ops) for edge in network.edges)
    if size < 10**9:
      return [f"{size:,} architectures"]
    power = str(round(network.log10_size)).translate(RAISED)
    return [f"about 10{power} architectures"]
  return [
    format_value(parameters(network), "parameters"),
    format_value(macs(network), "MACs"),
  ]


@functools.singledispatch
def drawing(network: Network) -> Drawing:
  """The drawing of a network; register families of your own.

  Of a family that is not registered, every edge is a box, in the order of
  `network.layers`.
  """
  return draw_chain(network)


drawing.register(Tree, draw_trees)
drawing.register(CellNetwork, draw_cells)
