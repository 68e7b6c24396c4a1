"""Networks from JSON files: those of `Network.to_json`, and `net.config`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from proxyless_jax.space.checks import check_path, expect
from proxyless_jax.space.codec import from_plain
from proxyless_jax.space.edge import Op, Size, as_size
from proxyless_jax.space.net_config import network_from_net_config
from proxyless_jax.space.networks.network import VERSION, Network, families


def load_network(
  path: str | os.PathLike,
  ops: Iterable[Op] = (),
  *,
  image_size: Size | None = None,
  channels: int | None = None,
  classes: int | None = None,
) -> Network:
  """Reads a network that `Network.to_json` wrote, or a `net.config`.

  A `net.config` is a file of the authors of ProxylessNAS (github.com:
  mit-han-lab/proxylessnas, mit-han-lab/mcunet). It gives a network of `pj.zoo`,
  or another one of the same form, with the epsilon and the momentum of its
  batch norms.

  A family of your own can be read once its class is defined.

  Args:
    path: path of the JSON file.
    ops: operations of your own that the file may name.
    image_size, channels, classes: values for the data. A `net.config` gives a
      network for them, as `pj.zoo` does; by default for the channels and the
      classes of the file, and for images of its 'resolution', or of 224 pixels
      ('ProxylessNASNets') or 32 ('PyramidTreeNet'). A file of `to_json` must
      agree with those that are given.

  Raises:
    ValueError: no such file, or a network that cannot be; the message names
      the field.
    OSError: the file does not exist, or it cannot be read.
  """
  check_path("path", path)
  known = not isinstance(ops, str) and isinstance(ops, Iterable)
  expect(known, "ops", ops, "a list of operations of your own")
  text = _read(os.fspath(path))
  try:
    return network_from_json(
      text,
      ops,
      image_size=image_size,
      channels=channels,
      classes=classes,
    )
  except ValueError as error:
    raise ValueError(f"{os.fspath(path)}: {error}") from error


def _read(path: str) -> str:
  try:
    # Some editors put a byte order mark before the text.
    with open(os.path.expanduser(path), encoding="utf-8-sig") as file:
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
  if isinstance(data, dict) and "name" in data and "family" not in data:
    return network_from_net_config(
      data, image_size=image_size, channels=channels, classes=classes
    )
  network = _own(data, tuple(ops))
  shape = dict(image_size=image_size, channels=channels, classes=classes)
  wrong = [
    f"{field} = {getattr(network, field)} where the data have {value}"
    for field, value in shape.items()
    if value is not None and getattr(network, field) != value
  ]
  if wrong:
    raise ValueError(
      f"expected a network for the data, got {', '.join(wrong)}: use another "
      "network, or other data"
    )
  return network


def _own(data: Any, ops: tuple[Op, ...]) -> Network:
  """The network that `Network.to_json` wrote as these data."""
  header = ["version", "family"]
  expect(isinstance(data, dict), "network", data, f"the fields {header}")
  if not data.keys() & set(header):
    raise ValueError(
      f"the fields are {sorted(data)}: expected {header} and more, those of a "
      "network: in the workdir of a search it is architecture.json"
    )
  version = data.pop("version", None)
  expect(version == VERSION, "version", version, f"{VERSION} for this release")
  family, known = data.pop("family", None), families()
  found = known.get(family) if isinstance(family, str) else None
  expect(found, "family", family, f"one of {sorted(known)}")
  return from_plain(found, data, "", ops)
