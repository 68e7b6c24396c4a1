"""Networks from their JSON files: the one list of all families."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable

from proxyless_jax.space.cells import CellNetwork
from proxyless_jax.space.chain import Chain
from proxyless_jax.space.codec import from_plain
from proxyless_jax.space.edge import expect
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
  """
  with open(os.path.expanduser(path), encoding="utf-8") as file:
    try:
      return network_from_json(file.read(), ops)
    except ValueError as error:
      raise ValueError(f"{os.fspath(path)}: {error}") from error


def network_from_json(text: str, ops: Iterable[Op] = ()) -> Network:
  """The network that a JSON text describes: see `load_network`."""
  try:
    data = json.loads(text)
  except json.JSONDecodeError as error:
    raise ValueError(f"not the JSON text of a network: {error}") from error
  header = ["version", "family"]
  expect(isinstance(data, dict), "network", data, f"the fields {header}")
  version = data.pop("version", None)
  expect(version == VERSION, "version", version, f"{VERSION} for this release")
  family = data.pop("family", None)
  known = isinstance(family, str) and family in FAMILIES
  expect(known, "family", family, f"one of {sorted(FAMILIES)}")
  return from_plain(FAMILIES[family], data, "", tuple(ops))
