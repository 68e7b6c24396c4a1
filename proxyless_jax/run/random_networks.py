"""Job 'random': networks drawn within the targets, as a baseline of a search.

Each is trained and evaluated as the found network is, by the same recipe, in a
folder of its own, `random/00`, `random/01`, ...; a run that was stopped goes on
with the one that it was training. `random.json` lists those that are done.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from proxyless_jax.data.dataset import Dataset
from proxyless_jax.nas import gates, objective
from proxyless_jax.nas.baselines import random_paths
from proxyless_jax.run.architecture import check_drop_path
from proxyless_jax.run.claiming import RANDOM, claim_run
from proxyless_jax.run.config.options import Options
from proxyless_jax.run.config.space import check_searched
from proxyless_jax.run.costs import check_targets, make_costs, near_targets
from proxyless_jax.run.evaluation import evaluate_network
from proxyless_jax.run.finished import NETWORK_FILE
from proxyless_jax.run.hosts import hosts
from proxyless_jax.run.loop import run_stage
from proxyless_jax.run.opening import open_run
from proxyless_jax.run.plan import random_plan
from proxyless_jax.run.result import add_to_result, read_result
from proxyless_jax.run.storage.json_files import read_json, write_json
from proxyless_jax.run.storage.workdir import checked
from proxyless_jax.run.train_stage import train_stage
from proxyless_jax.space import Network, macs, parameters

FILE = "random.json"
# Streams of a run are seeded from its seed on; the derivation has the fifth.
STREAM = 5


def random_networks(
  config: Mapping[str, Any], workdir: str | os.PathLike
) -> dict:
  """Trains random networks within the targets, and compares what was found.

  Args:
    config: a config, as for `pj.search`.
    workdir: folder of the run; where a search has ended in it, its network is
      compared with the random ones.

  Returns:
    The contents of `result.json`, to which it adds: 'random_count';
    'random_top1_mean' and 'random_top1_std', of the accuracies on the test
    images; and, where the workdir has a trained network, 'random_z', by how
    many standard deviations it is better than their mean.

  Raises:
    ValueError: a wrong config, data or workdir, before any compute.
  """
  workdir = checked(workdir)
  options, dataset = open_run(config, workdir, "random")
  space = options.make_space(dataset.classes)
  check_searched(options.space, space)
  costs = make_costs(options.search.costs, space)
  check_targets(costs, space)
  networks = drawn_networks(options, space, costs)
  for network in networks:
    check_drop_path(options.train, network)
  claim_run(workdir, options, dataset)
  path = os.path.join(workdir, FILE)
  done = hosts.on_first(lambda: read_json(path) if os.path.exists(path) else [])
  hosts.print_lines(
    random_plan(
      options, dataset, space, costs, len(networks), len(done), workdir
    )
  )
  # Of all that are done: a stop may have left the folder of one behind.
  clean = functools.partial(_remove_trainings, workdir, done)
  for number in range(len(done), len(networks)):
    hosts.on_first(clean)
    hosts.print_lines([f"random network {number + 1} of {len(networks)}"])
    done.append(_train(options, dataset, networks[number], workdir, number))
    hosts.on_first(lambda: write_json(path, done))
  hosts.on_first(clean)
  result = hosts.on_first(lambda: with_random(workdir, {}))
  return {**result, "job": "random"}


def _remove_trainings(workdir: str, done: list[dict]) -> None:
  """Removes the folders of networks that are done; `random` itself stays."""
  for number in range(len(done)):
    folder = os.path.join(workdir, RANDOM, f"{number:02d}")
    shutil.rmtree(folder, ignore_errors=True)


def drawn_networks(
  options: Options, space: Network, costs: Sequence[objective.Cost]
) -> list[Network]:
  """The networks of the job, all different: the same in each start of a run.

  Fewer than `random.count`, where there are no more near the targets.

  Args:
    options: options of the run.
    space: the search space.
    costs: the costs with their tables.
  """
  rng = np.random.default_rng([options.seed, STREAM])
  valid = gates.valid_candidates(space)
  limits = near_targets(costs, options.random.near, valid)
  drawn = random_paths(rng, valid, limits, options.random.count)
  return [space.choose(path.tolist()) for path in drawn]


def _train(
  options: Options,
  dataset: Dataset,
  network: Network,
  workdir: str,
  number: int,
) -> dict:
  """What one network reaches."""
  folder = os.path.join(workdir, RANDOM, f"{number:02d}")
  of_seed = dataclasses.replace(options, seed=options.seed + number)
  stage = train_stage(of_seed, dataset, network, None)
  state, seconds = run_stage(stage, folder, options.run)
  scores = evaluate_network(
    network,
    state.ema,
    dataset.test,
    options.data,
    batch=options.evaluate.batch,
    dtype=options.compute_dtype,
  )
  return {
    "ops": [edge.op.name for edge in network.edges],
    **scores,
    "parameters": parameters(network),
    "macs": macs(network),
    "seconds": round(seconds, 3),
  }


def with_random(workdir: str | os.PathLike, result: dict) -> dict:
  """The result of the workdir, with its random networks: `random_networks`.

  A random network that is the found one is left out. Of several hosts, one
  calls.

  Args:
    workdir: folder of the run.
    result: contents of its `result.json`, which is returned where the job has
      not run.
  """
  path = os.path.join(workdir, FILE)
  if not os.path.exists(path):
    return result
  own, ops = (read_result(workdir) or {}).get("top1"), _found_ops(workdir)
  top1 = [e["top1"] for e in read_json(path) if ops is None or e["ops"] != ops]
  found: dict[str, Any] = {"random_count": len(top1)}
  if top1:
    found["random_top1_mean"] = mean = float(np.mean(top1))
    spread = float(np.std(top1, ddof=1)) if len(top1) > 1 else 0.0
    found["random_top1_std"] = spread
    if own is not None and spread:
      found["random_z"] = (own - mean) / spread
  return add_to_result(workdir, found)


def _found_ops(workdir: str | os.PathLike) -> list[str] | None:
  """The candidates of the workdir's network; None without one."""
  path = os.path.join(workdir, NETWORK_FILE)
  if not os.path.exists(path):
    return None
  return [edge["ops"][0] for edge in read_json(path)["edges"]]
