"""The found networks among all of NAS-Bench-Macro: accuracy against MACs."""

from __future__ import annotations

import os

from matplotlib.figure import Figure

from experiments.macro.benchmark import Benchmark

MARKS = {
  "additive": "*",
  "evolution": "P",
  "full": "o",
  "two": "s",
  "reinforce": "^",
  "full+additive": "D",
}
LOWEST = 84.0  # Percent; the networks below it would flatten the rest.


def draw(
  table: Benchmark, searches: list[dict], path: str | os.PathLike
) -> None:
  """Writes the figure.

  Args:
    table: all networks.
    searches: entries with `algorithm` and `found`, see `nas_bench_macro`.
    path: path of the picture.
  """
  figure = Figure(figsize=(8, 5), layout="constrained")
  axes = figure.add_subplot()
  shown = table.accuracy >= LOWEST
  axes.scatter(
    *(table.macs[shown] / 1e6, table.accuracy[shown]),
    **dict(s=4, color="#b8c4d0", linewidths=0),
    label=f"{shown.sum():,} of {len(shown):,} networks",
  )
  front = [row for row in table.front() if table.accuracy[row] >= LOWEST]
  axes.step(
    *(table.macs[front] / 1e6, table.accuracy[front]),
    **dict(where="post", color="#5b6b7b", linewidth=1),
    label="best for its MACs",
  )
  for algorithm, mark in MARKS.items():
    found = [e["found"] for e in searches if e["algorithm"] == algorithm]
    if found:
      axes.scatter(
        [entry["macs"] / 1e6 for entry in found],
        [entry["accuracy"] for entry in found],
        **dict(
          marker=mark,
          s=110 if mark == "*" else 46,
          edgecolors="black",
          linewidths=0.6,
        ),
        label=f"found by {algorithm}",
        zorder=3,
      )
  for target in sorted({entry["target"] for entry in searches}):
    axes.axvline(target, color="#d08770", linestyle=":", linewidth=1)
  axes.set(
    xlabel="millions of multiply-adds (dotted: the searches' targets)",
    ylabel="test accuracy on CIFAR-10, percent",
    ylim=(LOWEST, None),
  )
  axes.legend(loc="lower right", frameon=False)
  figure.savefig(path, dpi=150)
