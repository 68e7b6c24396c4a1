"""Networks from their JSON files: the one list of all families."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable

from proxyless_jax.space.cells import CellNetwork
from proxyless_jax.space.chain import Chain
from proxyless_jax.space.codec import from_plain
from proxyless_jax.space.edge import check_path, expect
from proxyless_jax.space.network import VERSION, Network
from proxyless_jax.space.ops import Op
from proxyless_jax.space.tree import Tree

FAMILIES = {kind.family: kind for kind in (CellNetwork, Chain, Tree)}


def load_network(path: str | os.PathLike, ops: Iterable[Op] = ()) -> Network:
  """Reads a network that `Network.to_json` wrote.

  Args:
    path: of the JSON file.
    ops: operations of your own that the file may name.

  Raises:
    ValueError: not such a file; the message names the field.
    OSError: there is no such file, or it cannot be read.
  """
  check_path("path", path)
  known = not isinstance(ops, str) and isinstance(ops, Iterable)
  expect(known, "ops", ops, "a list of operations of your own")
  text = _read(os.fspath(path))
  try:
    return network_from_json(text, ops)
  except ValueError as error:
    raise ValueError(f"{os.fspath(path)}: {error}") from error


def _read(path: str) -> str:
  try:
    with open(path, encoding="utf-8") as file:
      return file.read()
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f"{path}: there is no such file: expected the JSON of a network, such as "
      "architecture.json in the workdir of a search"
    ) from error
  except IsADirectoryError as error:
    raise IsADirectoryError(
      f"{path}: expected a file, the JSON of a network, got a folder: in the "
      "workdir of a search it is architecture.json"
    ) from error
  except UnicodeDecodeError as error:
    raise ValueError(
      f"{path}: expected the JSON text of a network, got a file that is not "
      "text, such as a picture or weights: in the workdir of a search it is "
      "architecture.json"
    ) from error


def network_from_json(text: str, ops: Iterable[Op] = ()) -> Network:
  """The network that a JSON text describes: see `load_network`."""
  try:
    data = json.loads(text)
  except json.JSONDecodeError as error:
    raise ValueError(f"not the JSON text of a network: {error}") from error
  header = ["version", "family"]
  expect(isinstance(data, dict), "network", data, f"the fields {header}")
  if not data.keys() & set(header):
    raise ValueError(
      f"the fields are {sorted(data)}: expected {header} and more, those of a "
      "network: in the workdir of a search it is architecture.json"
    )
  version = data.pop("version", None)
  expect(version == VERSION, "version", version, f"{VERSION} for this release")
  family = data.pop("family", None)
  known = isinstance(family, str) and family in FAMILIES
  expect(known, "family", family, f"one of {sorted(FAMILIES)}")
  return from_plain(FAMILIES[family], data, "", tuple(ops))
