"""What is wrong with a command line that could not be parsed, in one line.

absl and ml_collections report what they trip over: `invalid literal for int()`
names neither the field nor what was expected. So after a failure the arguments
are looked at again, one by one.
"""

from __future__ import annotations

import inspect
import os
import re
import runpy
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from absl import flags

from proxyless_jax.run.config.named import (
  config_file,
  config_names,
  configs_in,
)
from proxyless_jax.space.suggest import did_you_mean, nearest

# Parsers of absl by the type of a field, and what they expect.
PARSERS: dict[type, tuple[flags.ArgumentParser, str]] = {
  bool: (flags.BooleanParser(), "True or False"),
  int: (flags.IntegerParser(), "an integer"),
  float: (flags.FloatParser(), "a number"),
}
# Most suggestions for a name that several sections have.
LISTED = 5


def explain(error: Exception, argv: list[str]) -> str:
  """Why a command line was refused.

  Args:
    error: exception that parsing the arguments raised.
    argv: the command line, the program first.

  Returns:
    The argument, what is wrong with it, and what to do.
  """
  given = list(_given(argv[1:]))
  file = next((value for name, value in given if name == "config"), None)
  if file is None:
    return _unknown_flag(error, {}) or _wrong_value(given) or str(error)
  if problem := _wrong_file(file):
    return f"--config={file}: {problem}"
  try:
    config = _load(file)
  # The config file is the user's code: anything may come out of it.
  except Exception as mistake:
    kind = type(mistake).__name__
    told = mistake if type(mistake) is ValueError else f"{kind}: {mistake}"
    return f"--config={file}: {told}"
  problem = _unknown_flag(error, config) or _wrong_field(given, config)
  return problem or _wrong_value(given) or str(error)


def _given(arguments: list[str]) -> Iterator[tuple[str, str | None]]:
  """Names of flags and their values; None where there is none."""
  for i, argument in enumerate(arguments):
    if match := re.fullmatch(r"--?([^=]+)(?:=(.*))?", argument, re.DOTALL):
      value, follows = match[2], arguments[i + 1 : i + 2]
      if value is None and follows and not follows[0].startswith("-"):
        (value,) = follows
      yield match[1], value


def _wrong_file(given: str) -> str:
  """What is wrong with a config that does not exist, or is not a config."""
  path = config_file(given).partition(":")[0]
  if os.path.isdir(path):
    return f"expected a config, got a folder{_known(path)}"
  if not os.path.exists(path):
    missing = "config of this name" if _is_name(path) else "such file"
    return f"there is no {missing}{_known(os.path.dirname(path), path)}"
  if not path.endswith(".py"):
    return f"expected a Python file with a get_config(){_known()}"
  return ""


def _is_name(path: str) -> bool:
  return bool(path) and path == os.path.basename(path).removesuffix(".py")


def _known(folder: str = "", path: str = "") -> str:
  """The end of an error: the existing configs, and the likely one.

  Args:
    folder: folder of the user's own configs; '' for those of the package.
    path: name or path of a config that is not there.
  """
  known, where = config_names(), "known are"
  if folder and (files := configs_in(folder)):
    known = [os.path.join(folder, file) for file in files]
    where = f"in {os.path.abspath(folder)} there are"
  names = {_name(one): one for one in known}
  meant = nearest(_name(path), names)
  question = f"; did you mean {names[meant]}?" if meant else ""
  return f"; {where} {', '.join(map(os.path.basename, known))}{question}"


def _name(path: str) -> str:
  return os.path.basename(path).removesuffix(".py")


def _load(given: str) -> dict[str, Any]:
  """The config in a file, as nested dicts."""
  path, colon, variant = config_file(given).partition(":")
  get_config = runpy.run_path(path).get("get_config")
  if get_config is None:
    raise ValueError(
      "expected a function get_config() in it that returns a ConfigDict, found "
      f"none{_known()}"
    )
  arguments = [variant] if colon else []
  try:
    inspect.signature(get_config).bind(*arguments)
  except TypeError as error:
    fix = f"leave out ':{variant}'" if colon else "name one after a colon"
    raise ValueError(f"get_config() and its variant: {error}: {fix}") from error
  config = get_config(*arguments)
  if not hasattr(config, "items"):
    raise ValueError(
      f"get_config() gave what is of type {type(config).__name__}: expected a "
      "ConfigDict; does it end with `return config`?"
    )
  return config.to_dict() if hasattr(config, "to_dict") else dict(config)


def _unknown_flag(error: Exception, config: Mapping[str, Any]) -> str:
  """What is wrong with an unknown flag; '' for other errors."""
  if not isinstance(error, flags.UnrecognizedFlagError):
    return ""
  name = error.flagname
  if name.startswith("config."):
    return f"--{name}: expected --config=NAME before it"
  meant = did_you_mean(name, flags.FLAGS) or _meant(name, config)
  return f"--{name}: there is no such flag (--help lists all){meant}"


def _wrong_value(given: Iterable[tuple[str, str | None]]) -> str:
  """What is wrong with a flag outside the config."""
  for name, value in given:
    kind = flags.FLAGS[name].flag_type() if name in flags.FLAGS else ""
    for of_type, (parser, expected) in PARSERS.items():
      if kind == of_type.__name__ and not _reads(parser, value):
        return f"--{name}={value}: expected {expected}"
  return ""


def _reads(parser: flags.ArgumentParser, value: str | None) -> bool:
  try:
    return value is None or parser.parse(value) is not None
  except ValueError:
    return False


def _wrong_field(
  given: Iterable[tuple[str, str | None]], config: Mapping[str, Any]
) -> str:
  """What is wrong with the first `--config.FIELD=VALUE` that is refused."""
  for name, value in given:
    start, _, field = name.partition(".")
    # Elements of a tuple are not looked into.
    if start not in ("config", "noconfig") or not field or "[" in field:
      continue
    argument = f"--{name}" if value is None else f"--{name}={value}"
    if problem := _problem(start, field, value, config):
      return f"{argument}: {problem}"
  return ""


def _problem(
  start: str, field: str, value: str | None, config: Mapping[str, Any]
) -> str:
  """What is wrong with one `--config.FIELD=VALUE`; '' where nothing is.

  Args:
    start: 'config', or 'noconfig' as in `--noconfig.data.flip`.
    field: dotted name of the field.
    value: text of the value, or None where there is none.
    config: result of the `get_config()` of the config's file.
  """
  fields = _flat(config)
  if field not in fields:
    section, known = _section(field, config)
    meant = _left_out(field, config) or _meant(field, config)
    meant = meant or f"; its fields are {known}"
    return f"config{section} has no such field{meant}"
  now = fields[field]
  if isinstance(now, Mapping):
    example = next(iter(now), "FIELD")
    return (
      "expected a value for one of the fields of this section, such as "
      f"--config.{field}.{example}={now.get(example)}"
    )
  parser, expected = PARSERS.get(type(now), (None, "text"))
  if value is None and not (isinstance(now, bool) or start == "noconfig"):
    return f"expected a value, such as --config.{field}={now}"
  if parser and value is not None and not _reads(parser, value):
    return f"expected {expected}, such as {now}"
  return ""


def _section(field: str, config: Mapping[str, Any]) -> tuple[str, list[str]]:
  """The last section on the way to a field, and the names in it."""
  path = ""
  for part in field.split(".")[:-1]:
    if not isinstance(config.get(part), Mapping):
      break
    path, config = f"{path}.{part}", config[part]
  return path, list(config)


def _meant(field: str, config: Mapping[str, Any]) -> str:
  """The end of an error: the fields of a config that a name is like."""
  fields = _flat(config).items()
  names = [name for name, value in fields if not isinstance(value, Mapping)]
  if close := nearest(field, names, cutoff=0.75):
    return _question([close])
  last = field.rpartition(".")[2]
  lasts = [name.rpartition(".")[2] for name in names]
  alike = nearest(last, lasts)
  return _question([n for n, own in zip(names, lasts) if own == alike])


def _left_out(field: str, config: Mapping[str, Any]) -> str:
  """The end of an error, where it is an option that the file leaves out."""
  # Slow: they import JAX.
  from proxyless_jax.run.config.options import Options, as_json
  from proxyless_jax.run.config.space import space_defaults

  space = config.get("space")
  family = space.get("family") if isinstance(space, Mapping) else None
  known = as_json(Options()) | {"space": space_defaults(family)}
  if field not in _flat(known):
    return ""
  return f" as the file leaves it out: write config.{field} = VALUE in the file"


def _question(names: Collection[str]) -> str:
  flags_ = [f"--config.{name}" for name in names][:LISTED]
  return f"; did you mean {' or '.join(flags_)}?" if flags_ else ""


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Sections and fields by their dotted names."""
  found = {}
  for name, value in config.items():
    found[f"{prefix}{name}"] = value
    if isinstance(value, Mapping):
      found |= _flat(value, f"{prefix}{name}.")
  return found
