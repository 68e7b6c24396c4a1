"""The architecture of a run: the one that a config names, or the workdir's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from proxyless_jax.data import DataOptions
from proxyless_jax.report import draw_architecture
from proxyless_jax.run.config.sections import TrainOptions
from proxyless_jax.space import Network, Op, load_network
from proxyless_jax.space.suggest import nearest
from proxyless_jax.space.zoo import NETWORKS, zoo

NAME = "architecture"


def find_network(
  name: str,
  workdir: str | os.PathLike,
  data: DataOptions,
  classes: int,
  ops: Sequence[Op] = (),
) -> Network:
  """The architecture that a config names, or that the workdir holds.

  Args:
    name: a name of `pj.zoo`, or the path of a network's JSON or of a
      `net.config`; '' for the workdir's architecture.json.
    workdir: folder of the run.
    data: options with the size and channels of the images.
    classes: number of classes.
    ops: operations of the user's own that the network may have.

  Raises:
    ValueError: there is no such network, it is a search space, or it is for
      other images or classes.
  """
  shape: dict[str, Any] = dict(
    image_size=data.image_size, channels=data.channels, classes=classes
  )
  if name in NETWORKS:
    return zoo(name, **shape)
  path = name or os.path.join(workdir, f"{NAME}.json")
  if not os.path.exists(path):
    raise ValueError(
      f"network = {name!r}: there is no file {path}{_advice(name)}"
    )
  where = f"network = {path!r}"
  try:
    network = load_network(path, ops, **shape)
  except (ValueError, OSError) as error:
    problem = str(error).removeprefix(f"{path}: ")
    raise ValueError(f"{where}: {problem}") from error
  _check_is_architecture(where, network)
  return network


def keep_network(network: Network, workdir: str | os.PathLike) -> None:
  """Writes the workdir's architecture.json, .svg and .png.

  Of several hosts, one calls.
  """
  path = os.path.join(workdir, NAME)
  network.to_json(f"{path}.json.tmp")
  os.replace(f"{path}.json.tmp", f"{path}.json")
  draw_architecture(network, f"{path}.svg", f"{path}.png")


def check_drop_path(train: TrainOptions, network: Network) -> None:
  """Refuses to drop paths of a network or space without shortcuts.

  Raises:
    ValueError: `train.drop_path` is set, and no edge has a shortcut beside it.
  """
  if train.drop_path and not network.drops_paths:
    raise ValueError(
      f"train.drop_path = {train.drop_path}: expected 0, since no edge of the "
      "network has a shortcut beside it"
    )


def _advice(name: str) -> str:
  """The end of an error for a file that does not exist."""
  if not name:
    return (
      ": run job 'search' in this workdir first, or name a published network "
      "(docs/networks.md) or the path of a network's JSON in config.network"
    )
  folder, file = os.path.split(name)
  is_folder = os.path.isdir(folder or ".")
  there = os.listdir(folder or ".") if is_folder else []
  there = [entry for entry in there if entry.endswith(".json")]
  meant = nearest(name, NETWORKS)
  if not meant and (meant := nearest(file, there)):
    meant = os.path.join(folder, meant)
  no_other = ", and no published network of this name (docs/networks.md)"
  return f"{no_other}; did you mean {meant!r}?" if meant else no_other


def _check_is_architecture(where: str, network: Network) -> None:
  searched = [edge for edge in network.edges if len(edge.ops) > 1]
  if searched:
    raise ValueError(
      f"{where}: expected an architecture, one candidate per edge, got a "
      f"search space ({len(searched)} of {len(network.edges)} edges have "
      "several): search it with job 'search', or choose one in Python: "
      "pj.load_network(path).choose(names).to_json(new_path)"
    )
