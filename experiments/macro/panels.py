"""Networks for several targets among all: accuracy against each cost."""

from __future__ import annotations

import os

import numpy as np
from matplotlib.figure import Figure

from experiments.macro.comparison import (
  NAMES,
  SHOWN,
  found_for,
  perfect_for,
)

MARKS = {"xla": "o", "onnx": "s", "memory": "^", "parameters": "D", "macs": "P"}
COLORS = ("#d08770", "#5e81ac", "#a3be8c", "#b48ead", "#ebcb8b")
SHOWN_PERCENT = 88.0, 93.5  # Networks below would flatten the rest.


def draw(
  costs: dict[str, np.ndarray],
  accuracy: np.ndarray,
  result: dict,
  path: str | os.PathLike,
) -> None:
  """Writes the figure: a panel for each target, costs by table.

  Args:
    costs: f64[n] of all networks, by target.
    accuracy: f64[n] of all networks, in percent.
    result: that of `experiments.specialise`.
    path: path of the picture.
  """
  figure = Figure(figsize=(12, 7), layout="constrained")
  panels = figure.subplots(2, 3, sharey=True).ravel()
  for axes, (target, of_all) in zip(panels, costs.items()):
    _panel(axes, target, of_all, accuracy, result, costs)
  for axes in panels[len(costs) :]:
    axes.axis("off")
    axes.legend(
      *panels[0].get_legend_handles_labels(), loc="center", frameon=False
    )
  for axes in panels[::3]:
    axes.set_ylabel("test accuracy on CIFAR-10, percent")
  panels[0].set_ylim(*SHOWN_PERCENT)
  figure.savefig(path, dpi=150)


def _panel(axes, target, of_all, accuracy, result, costs) -> None:
  scale, unit = SHOWN[target]
  shown = accuracy >= SHOWN_PERCENT[0]
  axes.scatter(
    *(scale * of_all[shown], accuracy[shown]),
    **dict(s=3, color="#c8d0da", linewidths=0),
    label=f"{shown.sum():,} of {len(shown):,} networks",
  )
  order = np.lexsort((-accuracy, of_all))
  best = np.maximum.accumulate(accuracy[order])
  axes.step(
    *(scale * of_all[order], best),
    **dict(where="post", color="#5b6b7b", linewidth=1),
    label="best for its cost",
  )
  for color, own in zip(COLORS, costs):
    networks = found_for(result, own)
    axes.scatter(
      [scale * one["by_table"][target] for one in networks],
      [one["accuracy"] for one in networks],
      **dict(marker=MARKS[own], color=color, edgecolors="black"),
      **dict(s=90 if own == target else 40, linewidths=0.6, zorder=3),
      label=f"found for {NAMES[own]}",
    )
  perfect = perfect_for(result, target)
  axes.scatter(
    *(scale * perfect["by_table"][target], perfect["accuracy"]),
    **dict(marker="*", s=110, color="white", edgecolors="black", zorder=2),
    label="by perfect information for this target",
  )
  axes.set_xlabel(f"{NAMES[target]}, {unit}")
