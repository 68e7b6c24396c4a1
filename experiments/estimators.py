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
from experiments.macro import training
from experiments.macro.estimators import compare

TARGET = 60.0
POINTS = ("start", "middle", "end")


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
  lines = ["point   estimator   cosine  slope  SNR of a draw  per 1000 images"]
  for entry in entries:
    for name in ("enumerated", "full", "controlled", "two", "reinforce"):
      of = entry[name]
      lines.append(
        f"{entry['point']:7s} {name:11s} {of['cosine']:6.2f} {of['slope']:6.2f}"
        f" {of['snr']:13.4f}  {1000 * of['snr_per_image']:15.3f}"
      )
  return "\n".join(lines)


def main() -> None:
  """Compares the estimators on the supernet of each seed."""
  parser = nas_bench_macro.parser()
  parser.add_argument("--draws", type=int, default=64)
  arguments = nas_bench_macro.with_defaults(parser.parse_args())
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
