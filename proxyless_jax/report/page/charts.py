"""The charts of a report, as Plotly's JSON: traces and a layout each.

Colours, fonts and grids are set in the browser, as it is light or dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from proxyless_jax.report.page.contents import Contents
from proxyless_jax.report.page.sampled import sampled_paths

# More points of a curve than these could not be told apart.
POINTS = 400

Chart = dict[str, Any]


def search_charts(contents: Contents) -> list[Chart]:
  """Loss, accuracy, entropy, and each cost with its multiplier."""
  lines = thinned(contents.of_stage("search"))
  charts = [
    _curves(
      "Loss",
      lines,
      {"loss": "weights' images", "arch_loss": "held-out images"},
    ),
    _curves(
      "Accuracy of drawn paths",
      lines,
      {"top1": "weights' images", "arch_top1": "held-out images"},
      axis="%",
      scale=100.0,
    ),
    _curves(
      "Entropy of the gates",
      lines,
      {"entropy": "mean of all edges"},
      axis="nats",
    ),
    _curves(
      "Reward", lines, {"reward": "of drawn paths", "baseline": "baseline"}
    ),
  ]
  for name in _cost_names(lines):
    cost = contents.search.get("costs", {}).get(name, {})
    charts.append(_cost_chart(name, cost, lines))
    charts.append(
      _curves(
        f"Multiplier of {name}", lines, {f"multiplier_{name}": "multiplier"}
      )
    )
  return [chart for chart in charts if chart["traces"]]


def train_charts(contents: Contents) -> list[Chart]:
  """Loss and accuracy of the training."""
  lines = thinned(contents.of_stage("train"))
  charts = [
    _curves("Loss", lines, {"loss": "training images"}),
    _curves(
      "Accuracy", lines, {"top1": "training images"}, axis="%", scale=100.0
    ),
  ]
  return [chart for chart in charts if chart["traces"]]


def sampled_chart(contents: Contents) -> Chart | None:
  """The losses of sampled paths over their costs, and the found network."""
  sampled = sampled_paths(contents)
  if sampled is None:
    return None
  traces = [
    _markers(
      group.label, group.costs.tolist(), group.losses.tolist(), symbol="circle"
    )
    for group in sampled.groups
  ]
  name = "found (predicted)" if sampled.predicted else "found"
  own = [sampled.found_cost], [sampled.found_loss]
  traces.append(_markers(name, *own, symbol="star"))
  layout: dict[str, Any] = {
    "xaxis": {"title": {"text": f"{sampled.cost} [{sampled.unit}]"}},
    "yaxis": {"title": {"text": "loss of the supernet"}},
  }
  if sampled.target is not None:
    layout["shapes"] = [
      {
        **{"type": "line", "x0": sampled.target, "x1": sampled.target},
        **{"yref": "paper", "y0": 0, "y1": 1, "line": {"dash": "dot"}},
      }
    ]
  return {"title": "", "traces": traces, "layout": layout}


def thinned(lines: Sequence[dict], most: int = POINTS) -> list[dict]:
  """At most `most` lines, evenly spread, the first and the last among them."""
  if len(lines) <= most:
    return list(lines)
  spread = (len(lines) - 1) / (most - 1)
  return [lines[round(i * spread)] for i in range(most)]


def _cost_names(lines: Sequence[dict]) -> list[str]:
  names = {name for line in lines for name in line}
  found = [name.removeprefix("expected_") for name in sorted(names)]
  return [name for name in found if f"expected_{name}" in names]


def _cost_chart(name: str, cost: dict, lines: Sequence[dict]) -> Chart:
  unit = cost.get("unit", "")
  curves = {f"expected_{name}": "expected", f"derived_{name}": "derived"}
  chart = _curves(f"Cost: {name}", lines, curves, axis=unit)
  wanted = {
    word: cost[word] for word in ("target", "reference") if word in cost
  }
  for word, value in wanted.items():
    steps = [line["step"] for line in lines]
    ends = [steps[0], steps[-1]]
    chart["traces"].append(
      {
        **{"type": "scatter", "mode": "lines", "name": word},
        **{"x": ends, "y": [value, value], "line": {"dash": "dot"}},
      }
    )
  return chart


def _curves(
  title: str,
  lines: Sequence[dict],
  names: dict[str, str],
  *,
  axis: str = "",
  scale: float = 1.0,
) -> Chart:
  """A chart of metrics over steps.

  Args:
    title: title of the chart.
    lines: lines of metrics.jsonl.
    names: what to call each metric.
    axis: unit of the metrics.
    scale: factor of all values.
  """
  traces = []
  for metric, name in names.items():
    points = [
      (line["step"], scale * float(line[metric]))
      for line in lines
      if metric in line and math.isfinite(float(line[metric]))
    ]
    if points:
      x, y = (list(values) for values in zip(*points))
      trace = {"type": "scatter", "mode": "lines", "name": name, "x": x}
      traces.append(trace | {"y": [float(f"{value:.5g}") for value in y]})
  layout = {
    "xaxis": {"title": {"text": "step"}},
    "yaxis": {"title": {"text": axis}},
  }
  return {"title": title, "traces": traces, "layout": layout}


def _markers(
  name: str, x: Sequence[float], y: Sequence[float], *, symbol: str
) -> dict[str, Any]:
  size = 15 if symbol == "star" else 6
  marker = {"symbol": symbol, "size": size}
  if symbol == "circle":
    marker["opacity"] = 0.55
  return {
    **{"type": "scatter", "mode": "markers", "name": name},
    **{"x": list(x), "y": list(y), "marker": marker},
  }
