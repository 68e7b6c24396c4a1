"""What moves the quality of a supernet, and of a search? One change at a time.

    python -m experiments.changes --out DIR [--seeds 0] [--supernets DIR2]

NAS-Bench-Macro's space (`experiments.nas_bench_macro`). For each change of the
warm-up, and each seed: a short one from the start, and how well the losses of
its paths rank the networks, near the targets too; then what the additive model
finds. Every change sees as many images times candidates as the others. For
each change of a search by mode `full`: what it finds from the supernets in
DIR2, those of `nas_bench_macro`, and the entropy of its gates.

DIR keeps what is done. `DIR/changes.json` has everything.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
from collections.abc import Sequence

import jax

from experiments.macro import command
from experiments.macro.command import TARGETS
from experiments.nas_bench_macro import Experiment, read_journal
from experiments.output import write_json

WARM_UPS = {
  "none": (),
  "one path": ("paths=1", "batch=96"),
  "six paths": ("paths=6", "batch=16"),
  "independent paths": ("fair=false",),
  "all candidates early": ("dense=0.25",),
  "shared filters": ("share=true",),
  "twice the rate": ("lr=0.1",),
  "half the rate": ("lr=0.025",),
}
SEARCHES = {
  "none": (),
  "half the rate of alpha": ("arch_lr=0.025",),
  "twice the rate of alpha": ("arch_lr=0.1",),
  "temperature 0.5": ("temperature=0.5",),
  "temperature 2": ("temperature=2.0",),
}
ALGORITHM, TARGET = "full", 60.0


def warm_up(arguments, name: str, seed: int) -> None:
  """A supernet by a changed warm-up, and additive searches in it."""
  out = arguments.out / "warm-up" / name.replace(" ", "-")
  experiment = experiment_of(arguments, out, WARM_UPS[name])
  done = {(e["seed"], e["target"]) for e in read_journal(journal(out))}
  of_seed = experiment.supernet(seed)
  for target in TARGETS:
    if (seed, target) not in done:
      experiment.search(of_seed, seed, "additive", target)


def search(arguments, name: str, seed: int) -> None:
  """A changed search from a supernet of `nas_bench_macro`."""
  out = arguments.out / "search" / name.replace(" ", "-")
  out.mkdir(parents=True, exist_ok=True)
  if seed in [entry["seed"] for entry in read_journal(journal(out))]:
    return
  for kept in (f"supernet-{seed}.npz", f"paths-{seed}.npz"):
    shutil.copy(arguments.supernets / kept, out)
  experiment = experiment_of(arguments, out, SEARCHES[name])
  experiment.search(experiment.supernet(seed), seed, ALGORITHM, TARGET)


def experiment_of(arguments, out: pathlib.Path, change: Sequence[str]):
  """The experiment with changed settings, in a folder of its own."""
  out.mkdir(parents=True, exist_ok=True)
  flags = ["--out", str(out), "--data", str(arguments.data), "--looks", "1"]
  flags += ["--warmup-epochs", str(arguments.warmup_epochs)]
  flags += ["--paths", str(arguments.paths), "--set", *change, *arguments.set]
  return Experiment(command.parse(command.parser(None), flags))


def journal(out: pathlib.Path) -> pathlib.Path:
  """The journal of the searches in a folder."""
  return out / "searches.jsonl"


def collect(out: pathlib.Path) -> dict:
  """Everything that is in the folders of the changes."""
  found: dict = {"device": jax.devices()[0].device_kind}
  for part, changes in (("warm-up", WARM_UPS), ("search", SEARCHES)):
    found[part] = []
    for name in changes:
      folder = out / part / name.replace(" ", "-")
      searches = read_journal(journal(folder))
      supernets = read_journal(folder / "supernets.jsonl")
      if searches:
        of = {"supernets": supernets, "searches": searches}
        found[part].append({"change": name, "set": changes[name], **of})
  return found


def summary(found: dict) -> str:
  """A line for each change and seed."""
  lines = ["change of the warm-up    seed   tau  near the targets   regrets"]
  for entry in found["warm-up"]:
    for of in entry["supernets"]:
      near = " ".join(
        f"{part['tau']:5.2f}" for part in of["paths"]["near"].values()
      )
      lines.append(
        f"{entry['change']:25s} {of['seed']:3d} "
        f"{of['paths']['by_loss']['tau']:5.2f}  {near}  "
        + regrets(entry, of["seed"])
      )
  lines.append("change of the search     seed   entropy at the end   regret")
  for entry in found["search"]:
    for of in entry["searches"]:
      lines.append(
        f"{entry['change']:25s} {of['seed']:3d} {of['entropy_end']:21.2f}  "
        + regrets(entry, of["seed"])
      )
  return "\n".join(lines)


def regrets(entry: dict, seed: int) -> str:
  """What the searches of a seed found: points below the best."""
  found = [of for of in entry["searches"] if of["seed"] == seed]
  return " ".join(f"{of['found']['regret']:5.2f}" for of in found)


def parser() -> argparse.ArgumentParser:
  """The command line."""
  parser = command.folders_parser(__doc__)
  add = parser.add_argument
  add("--supernets", type=pathlib.Path, help="none: no changes of a search")
  add("--seeds", type=int, nargs="+", default=[0])
  add(
    "--changes",
    nargs="*",
    default=tuple({**WARM_UPS, **SEARCHES}),
    choices=tuple({**WARM_UPS, **SEARCHES}),
    metavar="NAME",
    help="all if left out",
  )
  add("--warmup-epochs", type=command.above_zero, default=1.5)
  add("--paths", type=command.positive, default=200, help="with known losses")
  add("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="for all")
  return parser


def main(argv: Sequence[str] | None = None) -> dict:
  """Makes the changes that are not done, and writes all of them."""
  arguments = parser().parse_args(argv)
  for seed in arguments.seeds:
    for part, changes in ((warm_up, WARM_UPS), (search, SEARCHES)):
      if part is search and not arguments.supernets:
        continue
      for name in changes:
        if name in arguments.changes:
          part(arguments, name, seed)
  found = collect(arguments.out)
  write_json(str(arguments.out / "changes.json"), found)
  print(summary(found))
  return found


if __name__ == "__main__":
  main()
