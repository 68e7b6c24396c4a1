"""Where a config is: the name of one that comes with the package, or a file."""

from __future__ import annotations

import os
import pathlib

FOLDER = str(pathlib.Path(__file__).parents[2] / "configs")
# Other Python files beside configs are helpers of theirs.
_GET_CONFIG = "def get_config("


def config_file(given: str) -> str:
  """The file that a config is in, and its variant as it is given.

  Args:
    given: 'NAME', 'FILE.py', or either with ':VARIANT'.

  Returns:
    The file of a name that is known, else what is given; with `~` expanded, as
    shells leave it where it does not begin a word.
  """
  path, colon, variant = given.partition(":")
  if path in config_names():
    path = os.path.join(FOLDER, f"{path}.py")
  return os.path.expanduser(path) + colon + variant


def config_names() -> list[str]:
  """Names of the configs that come with the package."""
  return [name.removesuffix(".py") for name in configs_in(FOLDER)]


def configs_in(folder: str) -> list[str]:
  """Files of the configs in a folder; none where there is no such folder."""
  folder = folder or "."
  names = os.listdir(folder) if os.path.isdir(folder) else []
  return sorted(
    name
    for name in names
    if name.endswith(".py") and _GET_CONFIG in _text(os.path.join(folder, name))
  )


def _text(path: str) -> str:
  with open(path, encoding="utf-8", errors="replace") as file:
    return file.read()
