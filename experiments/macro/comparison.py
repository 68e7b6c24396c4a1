"""Networks for several targets against each other: tables and verdicts.

A result is that of `experiments.specialise`. Costs are those measured of whole
networks where there are any, and by table otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NAMES = {
  "xla": "XLA",
  "onnx": "ONNX Runtime, 1 thread",
  "memory": "peak memory",
  "parameters": "parameters",
  "macs": "MACs",
}
# Of costs in tables: factor from the unit of the cost tables, and name.
SHOWN = {
  "xla": (1.0, "ms"),
  "onnx": (1.0, "ms"),
  "memory": (1 / 1024, "KiB"),
  "parameters": (1e-6, "M"),
  "macs": (1e-6, "M"),
}
TRAININGS = 3  # Behind each accuracy.


def cost_of(result: dict, one: dict, target: str) -> float:
  """Cost of a network on a target: measured where it is, else by table."""
  passes = result["measured"].get(target, {}).get(one["arch"])
  return float(np.mean(passes)) if passes else one["by_table"][target]


def found_for(result: dict, target: str) -> list[dict]:
  """The networks that were searched for a target, by seed."""
  seeds = result["settings"]["seeds"]
  own = [one for one in result["networks"] if one["searched_for"] == target]
  return [one for one in own if one["seed"] in seeds]


def perfect_for(result: dict, target: str) -> dict:
  """The network of perfect information for a target."""
  seeds = result["settings"]["seeds"]
  own = [one for one in result["networks"] if one["searched_for"] == target]
  return next(one for one in own if one["seed"] not in seeds)


def noise_of(result: dict, target: str) -> float:
  """Relative standard error of a measured cost; 0 for what is counted."""
  measured = result["measured"].get(target, {})
  passes = np.array([np.log(costs) for costs in measured.values()])
  if not passes.size or passes.shape[1] < 2:
    return 0.0
  return float(np.sqrt(np.mean(passes.var(1, ddof=1)) / passes.shape[1]))


def verdicts(result: dict, targets: Sequence[str]) -> dict[str, dict]:
  """Of each target: its own networks beside the next cheapest ones there.

  Differences are means over the seeds. Their errors are two standard errors, of
  the spread over seeds, or of measuring and of training where that is more.

  Args:
    result: as the module's docstring says.
    targets: names of the targets.

  Returns:
    By target: the rival, the relative difference of costs and of accuracies
    with their errors, and the networks that are nearest to the front there.
  """
  return {target: _verdict(result, target, targets) for target in targets}


def _verdict(result: dict, target: str, targets: Sequence[str]) -> dict:
  own = found_for(result, target)
  ratios = {
    rival: np.log(
      [
        cost_of(result, one, target) / cost_of(result, other, target)
        for one, other in zip(own, found_for(result, rival))
      ]
    )
    for rival in targets
    if rival != target
  }
  rival = max(ratios, key=lambda name: ratios[name].mean())
  pairs = list(zip(own, found_for(result, rival)))
  points = [one["accuracy"] - other["accuracy"] for one, other in pairs]
  differ = np.array([one["arch"] != other["arch"] for one, other in pairs])
  trained = [
    np.hypot(one["deviation"], other["deviation"]) for one, other in pairs
  ]
  front = {
    name: float(
      np.mean([n["above_front"][target] for n in found_for(result, name)])
    )
    for name in targets
  }
  return {
    "rival": rival,
    "cost": float(np.expm1(ratios[rival].mean())),
    "cost_error": _error(
      ratios[rival], differ * 2**0.5 * noise_of(result, target)
    ),
    "points": float(np.mean(points)),
    "points_error": _error(points, differ * np.array(trained) / TRAININGS**0.5),
    "same_network": bool(not differ.any()),
    "above_front": front,
    # Of equally near ones, its own.
    "nearest_front": min(front, key=lambda name: (front[name], name != target)),
  }


def _error(differences, noise) -> float:
  """Two standard errors of a mean; `noise`: those of each difference."""
  count = len(differences)
  spread = np.std(differences, ddof=1) if count > 1 else 0.0
  of_noise = np.sqrt(np.mean(np.square(noise)))
  return float(2 * max(spread, of_noise) / np.sqrt(count))


def sentence(target: str, verdict: dict) -> str:
  """A verdict in words."""
  cost, points = verdict["cost"], verdict["points"]
  if verdict["same_network"]:
    return (
      f"- {NAMES[target]}: its networks are the same as those for "
      f"{NAMES[verdict['rival']]}. {_nearest(target, verdict)}"
    )
  beside = f"the next cheapest there, those for {NAMES[verdict['rival']]}"
  if abs(cost) <= verdict["cost_error"]:
    text = f"cost as much as {beside}"
  elif cost < 0:
    text = f"are the cheapest: {-100 * cost:.1f} % below {beside}"
  else:
    text = f"are NOT the cheapest: {100 * cost:.1f} % above {beside}"
  equal = abs(points) <= verdict["points_error"]
  return (
    f"- {NAMES[target]}: its networks {text} "
    f"(± {100 * verdict['cost_error']:.1f} %), at accuracies that "
    f"{'agree within noise' if equal else 'differ'} ({points:+.2f} ± "
    f"{verdict['points_error']:.2f} points). {_nearest(target, verdict)}"
  )


def _nearest(target: str, verdict: dict) -> str:
  nearest = verdict["nearest_front"]
  above = 100 * verdict["above_front"][nearest]
  whose = "its own" if nearest == target else f"those for {NAMES[nearest]}"
  return (
    f"Nearest to the front of true accuracy and this cost: {whose}, "
    f"{above:.1f} % above it."
  )


def tables_of(result: dict, targets: Sequence[str]) -> str:
  """The tables in Markdown, and the verdicts in words."""
  rows = {NAMES[t]: found_for(result, t) for t in targets}
  best = {NAMES[t]: [perfect_for(result, t)] for t in targets}
  head = [f"{NAMES[t]}, {SHOWN[t][1]}" for t in targets]
  seeds = len(result["settings"]["seeds"])
  return "\n".join(
    [
      f"Means over {seeds} seeds. Latencies are measured, in brackets by the "
      "table. The second figure of the memory is what XLA sets aside for one "
      "image.",
      "",
      *_table(["searched for", *head, "accuracy %"], result, rows, targets),
      "",
      "The cheapest networks of a true accuracy of at least "
      f"{result['accuracy_of_perfect']:.2f} %.",
      "",
      *_table(["cheapest in", *head, "accuracy %"], result, best, targets),
      "",
      "How far the found networks are above the cheapest ones of their own "
      "true accuracy, in percent, by table.",
      "",
      *_front(["searched for", *(NAMES[t] for t in targets)], rows, targets),
      "",
      *(sentence(target, result["verdicts"][target]) for target in targets),
      "",
      "Spearman's rank correlation of two targets over all networks: "
      + ", ".join(
        f"{pair} {value:.3f}"
        for pair, value in result["rank_correlation"].items()
      ),
      "",
    ]
  )


def _table(head, result, rows, targets) -> list[str]:
  lines = [_line(head), _line(["---"] * len(head))]
  for name, networks in rows.items():
    cells = [_cost(result, networks, target) for target in targets]
    accuracies = [one["accuracy"] for one in networks]
    accuracy = f"{np.mean(accuracies):.2f}"
    if len(networks) > 1:
      accuracy += f" ± {np.std(accuracies, ddof=1):.2f}"
    lines.append(_line([name, *cells, accuracy]))
  return lines


def _cost(result, networks, target) -> str:
  scale, _ = SHOWN[target]
  mean = scale * np.mean([cost_of(result, one, target) for one in networks])
  if target == "memory":
    taken = [result["xla_temporaries"][one["arch"]] for one in networks]
    return f"{mean:.4g}; {scale * np.mean(taken):.0f}"
  if target not in result["measured"]:
    return f"{mean:.4g}"
  by_table = scale * np.mean([one["by_table"][target] for one in networks])
  return f"{mean:.3g} ({by_table:.3g})"


def _front(head, rows, targets) -> list[str]:
  lines = [_line(head), _line(["---"] * len(head))]
  for name, networks in rows.items():
    above = [
      100 * np.mean([one["above_front"][target] for one in networks])
      for target in targets
    ]
    lines.append(_line([name, *(f"{percent:.1f}" for percent in above)]))
  return lines


def _line(cells) -> str:
  return f"| {' | '.join(cells)} |"
