"""Networks from JSON files, ours and the authors': all families in one list."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable

from proxyless_jax.space.cells import CellNetwork
from proxyless_jax.space.chain import Chain
from proxyless_jax.space.codec import from_plain
from proxyless_jax.space.edge import Size, as_size, expect
from proxyless_jax.space.net_config import network_from_net_config
from proxyless_jax.space.network import VERSION, Network
from proxyless_jax.space.ops import Op
from proxyless_jax.space.tree import Tree

FAMILIES = {kind.family: kind for kind in (CellNetwork, Chain, Tree)}


def load_network(
  path: str | os.PathLike,
  ops: Iterable[Op] = (),
  *,
  image_size: Size | None = None,
  channels: int | None = None,
  classes: int | None = None,
) -> Network:
  """Reads a network that `Network.to_json` wrote, or a `net.config`.

  The latter are of the authors of ProxylessNAS (github.com:
  mit-han-lab/proxylessnas, mit-han-lab/mcunet), and give the networks of
  `pj.zoo`, or others of the same form, with the epsilon and the momentum of
  their batch norms.

  Args:
    path: of the JSON file.
    ops: operations of your own that the file may name.
    image_size, channels, classes: of the data. A `net.config` gives a network
      for them, as `pj.zoo` does; where they are not given, for its own channels
      and classes, and for images of its 'resolution', or of 224 pixels
      ('ProxylessNASNets') or 32 ('PyramidTreeNet'). Any other file must have
      those that are given.

  Raises:
    ValueError: not such a file, or one that says what no network of ours can
      be; the message names the field.
  """
  shape = dict(image_size=image_size, channels=channels, classes=classes)
  with open(os.path.expanduser(path), encoding="utf-8") as file:
    try:
      return network_from_json(file.read(), ops, **shape)
    except ValueError as error:
      raise ValueError(f"{os.fspath(path)}: {error}") from error


def network_from_json(
  text: str,
  ops: Iterable[Op] = (),
  *,
  image_size: Size | None = None,
  channels: int | None = None,
  classes: int | None = None,
) -> Network:
  """The network that a JSON text describes: see `load_network`."""
  try:
    data = json.loads(text)
  except json.JSONDecodeError as error:
    raise ValueError(f"not the JSON text of a network: {error}") from error
  if image_size is not None:
    image_size = as_size("image_size", image_size)
  shape = dict(image_size=image_size, channels=channels, classes=classes)
  if isinstance(data, dict) and "name" in data and "family" not in data:
    return network_from_net_config(data, **shape)
  network = _own(data, tuple(ops))
  given = {field: value for field, value in shape.items() if value is not None}
  found = {field: getattr(network, field) for field in given}
  if found != given:
    raise ValueError(f"expected {given} as the data have, got {found}")
  return network


def _own(data: object, ops: tuple[Op, ...]) -> Network:
  """The network of which `Network.to_json` wrote these data."""
  header = ["version", "family"]
  expect(isinstance(data, dict), "network", data, f"the fields {header}")
  version = data.pop("version", None)
  expect(version == VERSION, "version", version, f"{VERSION} for this release")
  family = data.pop("family", None)
  known = isinstance(family, str) and family in FAMILIES
  expect(known, "family", family, f"one of {sorted(FAMILIES)}")
  return from_plain(FAMILIES[family], data, "", ops)
