"""search(), train(), evaluate(): a config and a workdir in, a result out.

Called again with the same config and workdir, each goes on where it was.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from proxyless_jax.nn import inherit
from proxyless_jax.parallel.mesh import make_mesh, place
from proxyless_jax.report import draw_architecture
from proxyless_jax.run.claiming import take
from proxyless_jax.run.config.options import Options
from proxyless_jax.run.config.space import own_ops
from proxyless_jax.run.costs import Calls, keep_tables, make_costs
from proxyless_jax.run.hosts import hosts
from proxyless_jax.run.loop import run_stage
from proxyless_jax.run.opening import open_run
from proxyless_jax.run.result import write_result
from proxyless_jax.run.search_stage import derive_network, search_stage
from proxyless_jax.run.storage.workdir import checked
from proxyless_jax.run.train_stage import (
  evaluate_network,
  recalibrate,
  train_stage,
  trained,
)
from proxyless_jax.run.weights import load_weights
from proxyless_jax.space import Network, load_network
from proxyless_jax.space.suggest import nearest
from proxyless_jax.space.zoo import NETWORKS, zoo

ARCHITECTURE = "architecture"


def search(config: Mapping[str, Any], workdir: str | os.PathLike) -> dict:
  """Searches, derives, trains where `config.train.enabled`, and evaluates.

  Args:
    config: a `ConfigDict`, or nested dicts; see `configs/mnist.py`.
    workdir: folder of the run, on a file system of this machine; a run that
      was stopped in it goes on.

  Returns:
    What `result.json` holds: one flat dict.

  Raises:
    ValueError: a wrong config, data or workdir, before any compute.
    FloatingPointError: loss or weights became NaN or infinite.
    KeyboardInterrupt: Ctrl-C came; within a stage, its last step is saved.
  """
  workdir = checked(workdir)
  options, dataset = open_run(config, workdir)
  space = options.make_space(dataset.classes)
  _check_drop_path(options, space)
  calls = Calls(space, options.search.costs, workdir)
  stage = search_stage(options, dataset, space, calls)
  take(workdir, options, dataset)
  costs = make_costs(options.search.costs, space)
  hosts.on_first(lambda: keep_tables(workdir, costs))
  state, search_seconds = run_stage(stage, workdir, options.run)
  state = place(state, make_mesh())
  arch = np.asarray(state.arch)
  network, more = derive_network(options, space, costs, arch, calls)
  hosts.on_first(lambda: _keep_network(network, workdir))
  seconds = {"search": search_seconds}
  variables = None
  if options.train.inherit or not options.train.enabled:
    # On the host: each slice of a bank would be compiled on its own.
    supernet = jax.device_get(
      {"params": state.params, "batch_stats": state.batch_stats}
    )
    variables = jax.device_put(
      inherit(space, supernet, network), may_alias=False
    )
    variables = recalibrate(options, dataset, network, variables)
  if options.train.enabled:
    stage = train_stage(options, dataset, network, variables)
    trained, seconds["train"] = run_stage(stage, workdir, options.run)
    variables = trained.ema
  return _finish(options, dataset, network, variables, workdir, seconds, more)


def train(config: Mapping[str, Any], workdir: str | os.PathLike) -> dict:
  """Trains `config.network`, or the workdir's architecture, and evaluates.

  Args, returns, raises: as `search`.
  """
  workdir = checked(workdir)
  options, dataset = open_run(config, workdir)
  network = _network(options, dataset, workdir)
  _check_drop_path(options, network)
  variables = load_weights(options, network)
  stage = train_stage(options, dataset, network, variables)
  take(workdir, options, dataset)
  hosts.on_first(lambda: _keep_network(network, workdir))
  state, seconds = run_stage(stage, workdir, options.run)
  seconds = {"train": seconds}
  return _finish(options, dataset, network, state.ema, workdir, seconds, {})


def evaluate(config: Mapping[str, Any], workdir: str | os.PathLike) -> dict:
  """Evaluates `config.weights`, or the newest trained weights of the workdir.

  Args, returns, raises: as `search`.
  """
  workdir = checked(workdir)
  options, dataset = open_run(config, workdir)
  network = _network(options, dataset, workdir)
  variables = load_weights(options, network)
  take(workdir, options, dataset)
  hosts.on_first(lambda: _keep_network(network, workdir))
  more = {}
  if variables is None:
    variables, more["step"] = _trained(options, network, workdir)
  return _finish(options, dataset, network, variables, workdir, {}, more)


def _trained(options, network, workdir) -> tuple[dict, int]:
  """The newest weights that a training has left in the workdir, their step."""
  found = trained(options, network, workdir)
  if found is None:
    raise ValueError(
      f"workdir = {os.fspath(workdir)}: expected trained weights in "
      "checkpoints/train, found none: run job 'train' there first, or job "
      "'search' with train.enabled = True; or name the file of PyTorch weights "
      "in config.weights, and their network in config.network"
    )
  step, variables = found
  return variables, step


def _check_drop_path(options: Options, network: Network) -> None:
  if options.train.drop_path and not network.drops_paths:
    raise ValueError(
      f"train.drop_path = {options.train.drop_path}: expected 0, since no edge "
      "of the network has a shortcut beside it"
    )


def _network(options: Options, dataset, workdir) -> Network:
  """The architecture that a config names, or that the workdir holds."""
  shape = dict(
    image_size=options.data.image_size,
    channels=options.data.channels,
    classes=dataset.classes,
  )
  if options.network in NETWORKS:
    return zoo(options.network, **shape)
  path = options.network or os.path.join(workdir, f"{ARCHITECTURE}.json")
  if not os.path.exists(path):
    raise ValueError(
      f"network = {options.network!r}: there is no file {path}"
      f"{_nearby(options.network)}"
    )
  where = f"network = {path!r}"
  try:
    network = load_network(path, own_ops(options.space), **shape)
  except (ValueError, OSError) as error:
    problem = str(error).removeprefix(f"{path}: ")
    raise ValueError(f"{where}: {problem}") from error
  _check_architecture(where, network)
  return network


def _nearby(name: str) -> str:
  """What a network that is not there may have been meant to be."""
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


def _check_architecture(where: str, network: Network) -> None:
  """Refuses a search space where an architecture is meant."""
  searched = [edge for edge in network.edges if len(edge.ops) > 1]
  if searched:
    raise ValueError(
      f"{where}: expected an architecture, one candidate per edge, got a "
      f"search space ({len(searched)} of {len(network.edges)} edges have "
      "several): search it with job 'search', or choose one in Python: "
      "pj.load_network(path).choose(names).to_json(new_path)"
    )


def _keep_network(network: Network, workdir) -> None:
  path = os.path.join(workdir, ARCHITECTURE)
  network.to_json(f"{path}.json.tmp")
  os.replace(f"{path}.json.tmp", f"{path}.json")
  draw_architecture(network, f"{path}.svg", f"{path}.png")


def _finish(options, dataset, network, variables, workdir, seconds, more):
  start = time.perf_counter()
  scores = evaluate_network(options, dataset, network, variables)
  seconds = {**seconds, "evaluate": time.perf_counter() - start}
  return hosts.on_first(
    lambda: write_result(
      workdir,
      job=options.job,
      network=network,
      scores=scores,
      seconds=seconds,
      more=more,
    )
  )
