"""What a job says of what it found: after deriving, and at its end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from proxyless_jax.report import format_value
from proxyless_jax.report.blocks import stage_lines
from proxyless_jax.run.plan import Rows, counts_of, lines_of
from proxyless_jax.space import Network, macs, parameters

# Where to look, where these files exist.
FILES = ("result.json", "architecture.png", "report.html")
UNFINISHED = "the search was too short: 'unfinished' in result.json says why"
# What to add to the command of a job that has ended, and what it then does.
TRAIN = "--config.job=train", "trains this network"
RANDOM = "--config.job=random", "trains random networks, as a baseline"
PREDICT = (
  "--config.job=predict --config.predict.images=FOLDER",
  "classifies images",
)
EXPORT = "--config.job=export", "writes it as a file for other runtimes"


def found_lines(network: Network, found: Mapping[str, Any]) -> list[str]:
  """What a search found: its network, costs, and rank.

  Args:
    network: the architecture.
    found: entries of the result about it.
  """
  counts = counts_of(parameters(network), macs(network))
  rows = [*stage_lines(network), ("counts", counts)]
  rows += _costs(found)
  if found.get("compared"):
    rows.append(("rank", _rank(found)))
  return lines_of("found", rows)


def summary(result: Mapping[str, Any], workdir: str) -> str:
  """What a job reached, and where to look next; accuracies come last.

  Args:
    result: what the job returned, mostly the contents of `result.json`.
    workdir: folder of the run, as the user wrote it.
  """
  job = result.get("job")
  if job == "measure":
    return _of_measure(result, workdir)
  if job == "predict":
    return f"{result['images']} images classified; see {result['file']}"
  if job == "export":
    return _of_export(result)
  if job == "random":
    rows = [("see", f"{workdir}/random.json"), *_accuracies(result)]
    return "\n".join(lines_of("result", rows))
  counts = counts_of(result["parameters"], result["macs"])
  rows = [("network", counts), *_costs(result)]
  if result.get("unfinished"):
    rows.append(("warning", UNFINISHED))
  rows += [("see", _files(workdir)), *_next(result), *_accuracies(result)]
  return "\n".join(lines_of("result", rows))


def _of_measure(result: Mapping[str, Any], workdir: str) -> str:
  table = f"{workdir}/table.json"
  return (
    f"mean error {100 * result['error_mean']:.2f} % and Spearman "
    f"{result['spearman']:.4f} on {result['held_out']} networks that the "
    f"table was not fitted to; see {table} and predicted.png\n"
    "next: a search for this device, --config.search.costs.hardware.kind="
    f"{table} --config.search.costs.hardware.reference='{_target(result)}'"
  )


def _of_export(result: Mapping[str, Any]) -> str:
  """The sentence for an exported file."""
  said = f"{result['file']}: {result['bytes']:,} bytes; {result['runtime']}"
  if not result["checked"]:
    return f"{said} did not check it: {result['why']}"
  said += f" gives the network's logits to within {result['difference']:.1e}"
  if "latency_ms" in result:
    said += f", in {result['latency_ms']:.3g} ms per image on this CPU"
  if "top1" in result:
    said += (
      f"; in int8, test accuracy {100 * result['top1']:.2f} % on "
      f"{result['images']:,} images, {100 * result['top1_before']:.2f} % before"
    )
  return said


def _target(result: Mapping[str, Any]) -> str:
  """A target in the middle of what the networks of a table cost."""
  middle = (result["min_cost"] + result["max_cost"]) / 2
  return f"{middle:.3g} {result['unit']}"


def _costs(result: Mapping[str, Any]) -> Rows:
  """A row for each cost, in its own unit."""
  rows = []
  for key in result:
    name = key.removeprefix("cost_")
    if name == key:
      continue
    unit = result[f"unit_{name}"]
    text = f"{name} {format_value(result[key], unit)}"
    if f"target_{name}" in result:
      met = "met" if result[f"met_{name}"] else "NOT met"
      target = format_value(result[f"target_{name}"], unit)
      text += f", target {target}: {met}"
    rows.append(("cost", text))
  return rows


def _rank(result: Mapping[str, Any]) -> str:
  """How the network compares with others by the weights of the search."""
  count = result["compared"]
  near = any(key.startswith("target_") for key in result)
  where = " near the target" if near else ""
  return (
    f"better than {count - result['compared_better']} of {count} random "
    f"networks{where}, by loss with the search's weights"
  )


def _accuracies(result: Mapping[str, Any]) -> Rows:
  """The network's accuracy and, in the same line, what it compares with."""
  said = []
  if "top1" in result:
    accuracy = f"{100 * result['top1']:.2f} % on {result['images']:,} images"
    said.append(accuracy)
  if result.get("random_count"):
    said.append(_baseline(result))
  elif result.get("compared"):
    said.append(_rank(result))
  return [("test accuracy", "; ".join(said))]


def _baseline(result: Mapping[str, Any]) -> str:
  """What random networks reach that were trained alike."""
  mean, std = (100 * result[f"random_top1_{name}"] for name in ("mean", "std"))
  text = (
    f"{result['random_count']} trained random networks: {mean:.2f} %, standard "
    f"deviation {std:.2f}"
  )
  if "random_z" not in result:
    return text
  z = result["random_z"]
  side = "above" if z >= 0 else "below"
  return f"{text}; it is {abs(z):.1f} of these {side} their mean"


def _files(workdir: str) -> str:
  there = [f for f in FILES if os.path.exists(os.path.join(workdir, f))]
  first, *others = there or FILES[:1]
  return ", ".join([f"{workdir}/{first}", *others])


def _next(result: Mapping[str, Any]) -> Rows:
  """The jobs that may follow in the same workdir."""
  searched = "entropy_end" in result
  advice = []
  if searched and "seconds_train" not in result:
    advice.append(TRAIN)
  if searched and "random_count" not in result:
    advice.append(RANDOM)
  return [
    ("next", f"the same command with {flags}: {does}")
    for flags, does in [*advice, PREDICT, EXPORT]
  ]
