"""An animation of a search: how the probabilities of all edges moved.

Of few edges, a row for each edge and a column for each candidate; of many, a
column for each block, with the most probable candidate of each edge in colour.
"""

from __future__ import annotations

import colorsys
import itertools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from proxyless_jax.report.page.contents import read_contents
from proxyless_jax.report.page.timeline import decoded, timeline
from proxyless_jax.report.shapes import FAINT, INK, RC

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from PIL.Image import Image

ENDINGS = (".gif", ".webp", ".png")  # The last one is an animated PNG.
SECONDS = 8.0  # From the first frame to the last, which then stays a while.
STAYS = 2000  # Milliseconds.
CELL, MARGIN = 0.34, 1.0  # Inches.
SMALL = 0.16

# A function that shows the probabilities of a frame.
Show = Callable[[list[np.ndarray]], None]


def write_animation(workdir: str | os.PathLike, path: str | os.PathLike) -> str:
  """Writes an animation of the search in a workdir.

  Args:
    workdir: folder of a run, with its alpha.jsonl and search.json.
    path: path of the file to write; its ending is one of `ENDINGS`.

  Returns:
    The path.

  Raises:
    ValueError: another ending, or a run without a record of alpha.
  """
  path = os.path.expanduser(os.fspath(path))
  if not path.endswith(ENDINGS):
    raise ValueError(
      f"animation = {path}: expected a path that ends in one of "
      f"{', '.join(ENDINGS)}"
    )
  moved = timeline(read_contents(workdir))
  if moved is None:
    raise ValueError(
      f"workdir = {os.fspath(workdir)}: expected a search with a record of "
      "alpha (alpha.jsonl, search.json), found none: the search trains no "
      "alpha, as with search.epochs = 0, or has not logged yet"
    )
  pictures = _pictures(moved)
  each = max(40, round(1000 * SECONDS / len(pictures)))
  durations = [each] * (len(pictures) - 1) + [STAYS]
  pictures[0].save(
    path,
    save_all=True,
    append_images=pictures[1:],
    duration=durations,
    loop=0,
  )
  return path


def _pictures(moved: dict[str, Any]) -> list[Image]:
  """A picture for each frame of the timeline."""
  import matplotlib
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure
  from PIL import Image

  prepare = _detailed if moved["detailed"] else _compact
  with matplotlib.rc_context(RC):
    figure = Figure(dpi=110, facecolor="white", layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    width, height, show = prepare(axes, moved)
    figure.set_size_inches(width, height)
    pictures = []
    for i, step in enumerate(moved["steps"]):
      show(decoded(moved, i))
      title = f"step {step:,} of {moved['steps'][-1]:,}"
      axes.set_title(title, color=INK, fontsize=11, loc="left")
      canvas.draw()
      picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
      pictures.append(picture)
  return pictures


def _detailed(axes: Axes, moved: dict) -> tuple[float, float, Show]:
  """Prepares a table of all candidates: width, height, and how to show."""
  edges, ops = moved["edges"], moved["ops"]
  image = axes.imshow(
    np.zeros((len(edges), len(ops))), cmap="Blues", vmin=0, vmax=1.2
  )
  axes.set_xticks(range(len(ops)), ops, rotation=90, fontsize=8, color=FAINT)
  names = [edge["name"] for edge in edges]
  axes.set_yticks(range(len(edges)), names, fontsize=8, color=FAINT)
  axes.tick_params(length=0)
  axes.spines[:].set_visible(False)
  (best,) = axes.plot([], [], "s", mfc="none", mec=INK, mew=1.4, ms=22)

  def show(probs: list[np.ndarray]) -> None:
    table = np.full((len(edges), len(ops)), np.nan)
    for row, edge, prob in zip(table, edges, probs):
      row[edge["ops"]] = prob
    image.set_data(table)
    leading = [e["ops"][int(np.argmax(p))] for e, p in zip(edges, probs)]
    best.set_data(leading, range(len(edges)))

  return 1.3 * MARGIN + CELL * len(ops), 1.6 + CELL * len(edges), show


def _compact(axes: Axes, moved: dict) -> tuple[float, float, Show]:
  """Prepares a column of cells for each block, as `_detailed`."""
  from matplotlib.patches import Patch

  edges, ops = moved["edges"], moved["ops"]
  grouped = itertools.groupby(edges, key=lambda edge: edge["group"])
  counts = [len(list(members)) for _, members in grouped]
  where = [(row, i) for i, count in enumerate(counts) for row in range(count)]
  shape = (max(counts), len(counts))
  colors = np.array([_color(i) for i in range(len(ops))])
  image = axes.imshow(np.ones((*shape, 3)))
  axes.set_axis_off()
  rows, columns = shape
  between = np.arange(max(shape) - 1) + 0.5
  axes.hlines(between[: rows - 1], -0.5, columns - 0.5, colors="white")
  axes.vlines(between[: columns - 1], -0.5, rows - 0.5, colors="white")
  patches = [Patch(color=color, label=op) for color, op in zip(colors, ops)]
  axes.legend(
    handles=patches,
    loc="upper left",
    bbox_to_anchor=(0, -0.02),
    ncols=4,
    fontsize=8,
    frameon=False,
  )

  def show(probs: list[np.ndarray]) -> None:
    picture = np.ones((*shape, 3))
    for at, edge, prob in zip(where, edges, probs):
      best = int(np.argmax(prob))
      strength = 0.15 + 0.85 * prob[best]
      color = colors[edge["ops"][best]]
      picture[at] = 1 - strength * (1 - color)
    image.set_data(picture)

  return max(6.0, 0.5 + SMALL * shape[1]), 1.4 + SMALL * shape[0], show


def _color(op: int) -> tuple[float, float, float]:
  """The colour of a candidate, as in the report."""
  return colorsys.hls_to_rgb((op * 137.5 + 205) % 360 / 360, 0.5, 0.6)
