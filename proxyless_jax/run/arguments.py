"""The command line's arguments: parsed, or refused in one line."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from absl import flags

from proxyless_jax.run.joining import Place, find_place

_DISTRIBUTED = flags.DEFINE_bool(
  "distributed", False, "One of several hosts; what started it says which."
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "HOST:PORT of the first of several hosts."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "How many hosts.")
_PROCESS = flags.DEFINE_integer("process", None, "Which host this is, from 0.")


def fail(message: str) -> NoReturn:
  """Ends the program with one line on standard error."""
  sys.exit(f"error: {' '.join(message.split())}")


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags, `--config` among them; gives what is no flag."""
  try:
    rest = flags.FLAGS([_expanded(arg) for arg in argv])
    flags.FLAGS.config.get("job")  # A file that is not there raises only here.
    return rest
  # The config file is the user's code: anything may come out of it.
  except Exception as error:
    if "--debug" in argv:
      raise
    fail(_problem(error, argv))


def _expanded(arg: str) -> str:
  """`--config=~/FILE` with the home folder, as shells leave it."""
  name, equals, value = arg.partition("=")
  is_config = name.lstrip("-") == "config"
  return name + equals + os.path.expanduser(value) if is_config else arg


def place() -> Place | None:
  """Of this host among several, as flags and environment say."""
  return find_place(
    _DISTRIBUTED.value, _COORDINATOR.value, _PROCESSES.value, _PROCESS.value
  )


def _problem(error: Exception, argv: list[str]) -> str:
  root = error
  while root.__context__ is not None:
    root = root.__context__
  if root is error and isinstance(error, flags.Error):
    return str(error)  # It names the flag.
  given = " ".join(arg for arg in argv if arg.lstrip("-").startswith("config"))
  kind = type(root).__name__
  if isinstance(root, KeyError):
    kind = "the config has no such field"
  return f"{given}: {kind}: {root}"
