"""How well a table of measured latency predicts networks it has not seen.

    python -m experiments.latency [--out experiments/results/latency.json]

The workload: the mobile space at 64x64, batch 1, float32, by XLA on the device
at hand. Blocks alone and 60 whole networks make the table; 30 others, each
measured twice, check it, and so do the published networks, as architectures of
this space. Beginning with no compiled programs, so that the
minutes are those of a first time. Prints errors, rank correlation, and the
noise of measuring again; writes them with both costs of each network, and the
picture beside `--out`. `--journal FILE` continues after a stop.
"""

import argparse
import json
import os
import platform
import tempfile

import jax

from experiments.output import write_json
from proxyless_jax.hardware.design import published_in
from proxyless_jax.hardware.measure import Plan, build_table
from proxyless_jax.hardware.runtime import xla
from proxyless_jax.run.measuring import Lines, draw_check
from proxyless_jax.space import mobile_space


def workload():
  """The space of the module's docstring."""
  return mobile_space(image_size=64)


def measure(plan, journal):
  """The table, its check, and the runtime."""
  runtime = xla(batch=1, dtype="float32")
  with tempfile.TemporaryDirectory() as cache:
    jax.config.update("jax_compilation_cache_dir", cache)
    return *build_table(
      workload(),
      runtime,
      plan,
      journal=journal,
      known=published_in(workload()),
      on_reading=Lines(runtime.unit),
    ), runtime


def result_of(table, check):
  """What the experiment tells."""
  details = dict(table.details)
  published = details.pop("known")
  return {
    "workload": "mobile space, 64x64, batch 1, float32, XLA",
    "device": table.source,
    "versions": {"jax": jax.__version__, "python": platform.python_version()},
    "load_average": os.getloadavg()[0],
    "minutes": round(details.pop("seconds") / 60, 2),
    **details,
    "fixed_ms": table.fixed,
    "min_ms": table.min_cost,
    "max_ms": table.max_cost,
    "published_predicted_measured_ms": {
      name: [round(cost, 4) for cost in costs]
      for name, costs in published.items()
    },
    "predicted_ms": [round(x, 4) for x in check.predicted.tolist()],
    "measured_ms": [
      [round(x, 4) for x in row] for row in check.measured.tolist()
    ],
  }


def main():
  """Measures, prints, writes."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--calibration", type=int, default=60)
  parser.add_argument("--held_out", type=int, default=30)
  parser.add_argument("--journal")
  parser.add_argument("--out")
  args = parser.parse_args()
  plan = Plan(args.calibration, args.held_out)
  table, check, runtime = measure(plan, args.journal)
  result = result_of(table, check)
  print(json.dumps(result, indent=1))
  if args.out:
    write_json(args.out, result)
    draw_check(check, runtime, os.path.splitext(args.out)[0])


if __name__ == "__main__":
  main()
