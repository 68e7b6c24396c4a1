"""The command line's arguments: parsed, or refused in one line."""

from __future__ import annotations

import sys
from typing import NoReturn

from absl import flags, logging

from proxyless_jax.run.config import mistakes
from proxyless_jax.run.config.named import config_file, config_names
from proxyless_jax.run.hosts.joining import Rendezvous, find_rendezvous

PROGRAM = "python -m proxyless_jax"
USAGE = (
  f"usage: {PROGRAM} --config=NAME[:VARIANT] --workdir=DIR "
  "[--config.FIELD=VALUE ...]"
)
EXAMPLE = f"example: {PROGRAM} --config=mnist --workdir=runs/mnist"
HELP = {"--help", "-help", "-h"}
CONFIG_FLAGS = ("--config", "-config")
NEEDED = {"config": "a config", "workdir": "the folder of the run"}

_DISTRIBUTED = flags.DEFINE_bool(
  "distributed", False, "One of several hosts; their launcher gives its number."
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "HOST:PORT of the first of several hosts."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "How many hosts.")
_PROCESS = flags.DEFINE_integer("process", None, "Which host this is, from 0.")


def fail(message: str) -> NoReturn:
  """Ends the program with one line on standard error."""
  sys.exit(f"error: {' '.join(message.split())}")


def parse_flags(argv: list[str], text: str) -> list[str]:
  """Parses the flags, `--config` among them; returns what is no flag.

  Args:
    argv: the command line.
    text: how the program is used, for `--help`: absl's own would list flags
      alone, and other ones by the way in which the program was started.
  """
  if HELP & set(argv):
    print(text.strip())
    sys.exit(0)
  if not argv[1:]:
    names = ", ".join(config_names())
    sys.exit(f"{USAGE}\n{EXAMPLE}\nconfigs: {names}, or a file of your own")
  # ml_collections warns of what is an error here.
  logging.set_verbosity(logging.ERROR)
  try:
    rest = flags.FLAGS(_with_files(argv))
    _check_given()
    flags.FLAGS.config.get("job")  # A file that is not there raises only here.
    return rest
  # The config file is the user's code: anything may come out of it.
  except Exception as error:
    if "--debug" in argv:
      raise
    fail(mistakes.explain(error, argv))


def _check_given() -> None:
  for name, what in NEEDED.items():
    if not flags.FLAGS[name].present:
      fail(f"no --{name}: expected {what}; {EXAMPLE}")


def _with_files(argv: list[str]) -> list[str]:
  """The arguments with the file of a config that is given by its name."""
  arguments = []
  for before, argument in zip(["", *argv], argv):
    name, equals, value = argument.partition("=")
    if equals and name in CONFIG_FLAGS:
      argument = name + equals + config_file(value)
    elif before in CONFIG_FLAGS:
      argument = config_file(argument)
    arguments.append(argument)
  return arguments


def rendezvous() -> Rendezvous | None:
  """Where this host meets the others, as flags and environment say."""
  return find_rendezvous(
    _DISTRIBUTED.value, _COORDINATOR.value, _PROCESSES.value, _PROCESS.value
  )
