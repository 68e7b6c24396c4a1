"""The command line of the NAS-Bench-Macro experiments."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from experiments.macro import training

DATA = pathlib.Path(__file__).parents[3] / "shared" / "data"
BY_LOSSES = ("additive", "pairwise", "lowest")
ALGORITHMS = (*BY_LOSSES, "evolution", *training.ALGORITHMS)
# A search, then the additive model of its supernet.
THEN_ADDITIVE = tuple(f"{name}+additive" for name in training.ALGORITHMS)
TARGETS = (40.0, 60.0, 80.0)
PARTS = 6  # Of a warm-up; after each its state is kept.
SMALL = training.Settings(
  batch=32, arch_batch=64, lr=0.05, arch_lr=0.05, ramp_steps=50
)
WHOLE = training.Settings(batch=256, dtype="bfloat16", arch_lr=0.05)
DTYPES = ("float32", "bfloat16")
ABOVE_ZERO = ("batch", "paths", "arch_batch", "lr", "search_lr", "arch_lr")
ABOVE_ZERO += ("every", "samples", "rate", "temperature")


def folders_parser(description: str | None) -> argparse.ArgumentParser:
  """The folders of the results and of the data, to which options are added."""
  raw = argparse.RawDescriptionHelpFormatter
  parser = argparse.ArgumentParser(description=description, formatter_class=raw)
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--data", type=pathlib.Path, default=DATA)
  return parser


def parser(description: str | None) -> argparse.ArgumentParser:
  """The options that all experiments on the supernets have."""
  parser = folders_parser(description)
  add = parser.add_argument
  add("--whole", action="store_true", help="the settings for a GPU")
  add("--per-class", type=positive, default=None, help="images; all if none")
  add("--seeds", type=int, nargs="+", default=[0])
  add(
    "--algorithms",
    nargs="*",
    default=ALGORITHMS,
    choices=(*ALGORITHMS, *THEN_ADDITIVE),
    metavar="NAME",
  )
  add("--targets", type=float, nargs="+", default=TARGETS)
  add("--warmup-epochs", type=above_zero, default=None, help="27 or 4.5")
  add("--epochs", type=above_zero, default=None, help="of a search: 5 or 0.64")
  add("--looks", type=int, default=3, choices=(1, 2, 3, 6))
  add("--paths", type=positive, default=400, help="whose losses are taken")
  add("--score-images", type=positive, default=500)
  add("--score-batch", type=positive, default=500)
  add("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="a setting")
  return parser


def parse(
  parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> argparse.Namespace:
  """The arguments, checked; `set` is a dict, and lengths are filled in."""
  arguments = parser.parse_args(argv)
  if arguments.score_images % arguments.score_batch:
    parser.error(
      f"--score-images {arguments.score_images}: expected a multiple of "
      f"--score-batch {arguments.score_batch}"
    )
  try:
    arguments.set = dict(_setting(pair) for pair in arguments.set)
  except ValueError as error:
    parser.error(f"--set {error}")
  if arguments.warmup_epochs is None:
    arguments.warmup_epochs = 27.0 if arguments.whole else 4.5
  if arguments.epochs is None:
    arguments.epochs = 5.0 if arguments.whole else 0.64
  return arguments


def settings_of(
  arguments: argparse.Namespace, images: int
) -> training.Settings:
  """The settings for a number of images: epochs as steps."""
  base = WHOLE if arguments.whole else SMALL
  base = dataclasses.replace(base, **arguments.set)
  epoch = images / (base.batch * base.paths)
  per_part = max(1, round(arguments.warmup_epochs * epoch / PARTS))
  return dataclasses.replace(
    base,
    warmup_steps=per_part * PARTS,
    steps=max(base.every, round(arguments.epochs * epoch)),
  )


def positive(text: str) -> int:
  """An integer above zero."""
  value = int(text)
  if value < 1:
    raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
  return value


def above_zero(text: str) -> float:
  """A number above zero."""
  value = float(text)
  if not value > 0:
    raise argparse.ArgumentTypeError(f"{text}: expected a number above 0")
  return value


def _setting(pair: str) -> tuple[str, Any]:
  """Name and value of FIELD=VALUE; raises a ValueError for another form."""
  name, _, text = pair.partition("=")
  types = {
    field.name: type(field.default)
    for field in dataclasses.fields(training.Settings)
    if field.name not in ("warmup_steps", "steps")  # Of the epochs.
  }
  if name not in types:
    raise ValueError(f"{pair}: expected FIELD=VALUE, of {', '.join(types)}")
  try:
    value = text if types[name] is str else json.loads(text)
  except json.JSONDecodeError as error:
    raise ValueError(
      f"{pair}: expected a number, true or false after ="
    ) from error
  if types[name] is float and type(value) is int:
    value = float(value)
  if type(value) is not types[name]:
    raise ValueError(f"{pair}: expected {types[name].__name__} after =")
  if name == "dtype" and value not in DTYPES:
    raise ValueError(f"{pair}: expected one of {', '.join(DTYPES)}")
  if name in ABOVE_ZERO and not value > 0:
    raise ValueError(f"{pair}: expected a number above 0")
  return name, value
