"""ProxylessNAS in JAX: search a network on the target task and hardware.

The rooms are subpackages: `space`, `parallel`, `nn`, `training`, `nas`,
`hardware`, `data`, `report`, `exchange`, `run`; docs/architecture.md describes
them.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import optax

from proxyless_jax import nas
from proxyless_jax.exchange import (
  from_torch,
  read_torch,
  to_torch,
  write_torch,
)
from proxyless_jax.hardware import CostTable, cost_table
from proxyless_jax.nn import BatchNorm, build, inherit, init, make
from proxyless_jax.space import (
  Chain,
  Edge,
  Network,
  Op,
  load_network,
  macs,
  mobile_space,
  parameters,
  tree_space,
)
from proxyless_jax.space.zoo import list_networks, zoo

if TYPE_CHECKING:
  from proxyless_jax.run.finished import Run

__all__ = [
  "BatchNorm",
  "Chain",
  "CostTable",
  "Edge",
  "Network",
  "Op",
  "build",
  "configs",
  "cost_table",
  "evaluate",
  "export",
  "from_torch",
  "inherit",
  "init",
  "list_networks",
  "load_network",
  "load_run",
  "macs",
  "make",
  "measure",
  "mobile_space",
  "parameters",
  "predict",
  "random_networks",
  "read_torch",
  "search",
  "to_torch",
  "train",
  "tree_space",
  "write_torch",
  "zoo",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
  """`pj.configs`, imported when it is asked for: it needs ml_collections."""
  if name == "configs":
    return importlib.import_module("proxyless_jax.configs")
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  """The names of the package: completion shows `configs`, too."""
  return sorted({*globals(), "configs"})


def search(
  config: Mapping[str, Any],
  workdir: str | os.PathLike,
  *,
  draw: nas.gates.Draw = nas.gates.draw,
  terms: Sequence[nas.objective.Term] = (),
  tx: optax.GradientTransformation | None = None,
  arch_tx: optax.GradientTransformation | None = None,
) -> dict:
  """Searches, derives, trains and evaluates: see `run.jobs.search`."""
  from proxyless_jax.run import jobs  # Imports data and report libraries.

  own: dict[str, Any] = dict(draw=draw, terms=terms, tx=tx, arch_tx=arch_tx)
  return jobs.search(config, workdir, **own)


def train(config: Mapping[str, Any], workdir: str | os.PathLike) -> dict:
  """Trains an architecture and evaluates it: see `run.jobs.train`."""
  from proxyless_jax.run import jobs

  return jobs.train(config, workdir)


def evaluate(config: Mapping[str, Any], workdir: str | os.PathLike) -> dict:
  """Evaluates trained weights: see `run.jobs.evaluate`."""
  from proxyless_jax.run import jobs

  return jobs.evaluate(config, workdir)


def predict(config: Mapping[str, Any], workdir: str | os.PathLike) -> dict:
  """Classifies image files into a CSV: see `run.predicting.predict`."""
  from proxyless_jax.run import predicting

  return predicting.predict(config, workdir)


def load_run(workdir: str | os.PathLike, ops: Iterable[Op] = ()) -> Run:
  """Loads a run that has ended: see `run.finished.load_run`."""
  from proxyless_jax.run import finished

  return finished.load_run(workdir, ops)


def export(
  run: Run,
  path: str | os.PathLike,
  *,
  preprocess: bool = False,
  quantize: bool = False,
) -> dict:
  """Writes a run's network for other runtimes: see `run.exporting.export`."""
  from proxyless_jax.run import exporting

  return exporting.export(run, path, preprocess=preprocess, quantize=quantize)


def random_networks(
  config: Mapping[str, Any], workdir: str | os.PathLike
) -> dict:
  """Trains random networks: see `run.random_networks.random_networks`."""
  from proxyless_jax.run import random_networks

  return random_networks.random_networks(config, workdir)


def measure(config: Mapping[str, Any], workdir: str | os.PathLike) -> dict:
  """Measures a table of costs and checks it: see `run.jobs.measure`."""
  from proxyless_jax.run import jobs

  return jobs.measure(config, workdir)
