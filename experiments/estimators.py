"""Which estimator deserves the budget? Gradients of alpha against the true one.

    python -m experiments.estimators --out DIR [--seeds 0] [--draws 64]

DIR is that of `experiments.nas_bench_macro`, whose supernets are searched here
again by mode `full`. At the start, in the middle and at the end of the search
the estimators are compared with the true gradient of the expected loss, got by
enumeration (`macro.estimators`). Prints a line for each estimator and point,
and writes `DIR/estimators.json`.
"""

from __future__ import annotations

import json

import jax

from experiments import nas_bench_macro
from experiments.macro import command, training
from experiments.macro.estimators import compare

TARGET = 60.0
POINTS = ("start", "middle", "end")
NAMES = ("enumerated", "full", "controlled", "two", "reinforce", "accuracy")


def at_points(experiment, seed: int, draws: int) -> list[dict]:
  """The figures of all estimators along one search."""
  variables, _, _ = experiment.supernet(seed)
  net, settings = experiment.net, experiment.settings
  rounds = settings.steps // settings.every // 2
  state, found = net.begin_search(variables, seed), []
  for number, point in enumerate(POINTS):
    if number:
      state, _ = net.search(state, TARGET, rounds, "full")
    variables = training.variables_of(state)
    batches = net.held_out_batches(state.key, draws, first=10_000 * number)
    figures = compare(net, variables, state.arch, batches, seed)
    found.append({"seed": seed, "point": point, **figures})
    print(json.dumps(found[-1]), flush=True)
  return found


def summary(entries: list[dict]) -> str:
  """A line for each estimator at each point."""
  lines = [
    "point   estimator   cosine  unbiased  slope     SNR  per 1000 images"
  ]
  for entry in entries:
    for name in NAMES:
      of = entry[name]
      figures = f"{of['cosine']:6.2f} {of['unbiased']:9.2f} {of['slope']:6.2f}"
      ratios = f"{of['snr']:7.4f} {1000 * of['snr_per_image']:16.3f}"
      lines.append(f"{entry['point']:7s} {name:11s} {figures} {ratios}")
  return "\n".join(lines)


def main() -> None:
  """Compares the estimators on the supernet of each seed."""
  parser = command.parser(__doc__)
  parser.add_argument("--draws", type=command.positive, default=64)
  arguments = command.parse(parser)
  experiment = nas_bench_macro.Experiment(arguments)
  entries = [
    entry
    for seed in arguments.seeds
    for entry in at_points(experiment, seed, arguments.draws)
  ]
  path = arguments.out / "estimators.json"
  device = jax.devices()[0].device_kind
  path.write_text(
    json.dumps({"device": device, "points": entries}, indent=1) + "\n",
    encoding="utf-8",
  )
  print(summary(entries))


if __name__ == "__main__":
  main()
