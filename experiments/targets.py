"""Do searches land on their targets? Ten seeds of a short search, twice.

    python -m experiments.targets [--seeds 10] [--out FILE]

Each search is on the plain digits (`configs/mnist_plain.py`), in a smaller
space and without the final training, for a target in MACs that is kept
'at_most' or 'exactly'. What counts is the network that the search gives: at or
below the target, or within 2 % of it. Beside it stands on how many edges it
differs from argmax: zero where the multiplier alone did it.
"""

from __future__ import annotations

import argparse
import tempfile

import jax

from experiments.output import write_json
from proxyless_jax.configs import mnist, mnist_plain
from proxyless_jax.run import jobs

TARGET = "1.2 M MACs"
FORMS = ("at_most", "exactly")


def config_of(form: str, seed: int):
  """The short search."""
  config = mnist.get_config()
  mnist_plain.plain(config)
  config.seed = seed
  config.space.update(widths=(16,), depths=(4,), strides=(2,), head_width=64)
  config.search.update(batch=128, warmup_epochs=0.5, epochs=3.0)
  config.search.arch.update(lr=0.05, every=1, after_epochs=0.0)
  config.search.costs.hardware.update(form=form, reference=TARGET, weight=0.1)
  config.train.enabled = False
  config.run.update(log_every=1000, checkpoint_every=1000)
  return config


def measure(form: str, seed: int) -> dict:
  """What one search found."""
  with tempfile.TemporaryDirectory() as workdir:
    result = jobs.search(config_of(form, seed), workdir)
  return {
    "form": form,
    "seed": seed,
    "derived_over_target": result["cost_hardware"] / result["target_hardware"],
    "met": result["met_hardware"],
    "edges_off_argmax": result["edges_off_argmax"],
    "top1": result["top1"],
    "seconds": result["seconds_search"],
  }


def main() -> None:
  """Runs the searches, one after the other."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--seeds", type=int, default=10)
  parser.add_argument("--out", help="file for the results, JSON")
  arguments = parser.parse_args()
  results = []
  for form in FORMS:
    for seed in range(arguments.seeds):
      found = measure(form, seed)
      results.append(found)
      print(
        f"{form} {TARGET}, seed {seed}: derived / target "
        f"{found['derived_over_target']:.4f}, met {found['met']}, "
        f"{found['edges_off_argmax']} edges off argmax",
        flush=True,
      )
  summary = {
    form: sum(r["met"] for r in results if r["form"] == form) for form in FORMS
  }
  print(f"met, of {arguments.seeds} seeds: {summary}")
  if arguments.out:
    plain = {
      "target": TARGET,
      "device": jax.devices()[0].device_kind,
      "met": summary,
      "searches": results,
    }
    write_json(arguments.out, plain)


if __name__ == "__main__":
  main()
