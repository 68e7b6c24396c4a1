"""search(), train(), evaluate(): a config and a workdir in, a result out.

Called again with the same config and workdir, each goes on where it was.
"""

from __future__ import annotations

import functools
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from proxyless_jax.data import DataOptions, check_search, load
from proxyless_jax.nn import inherit
from proxyless_jax.report import draw_architecture
from proxyless_jax.run import fields, hosts
from proxyless_jax.run.compilation import keep_compiled
from proxyless_jax.run.contents import keep_contents, kept_classes
from proxyless_jax.run.costs import Calls, keep_tables, make_costs
from proxyless_jax.run.options import Options, as_dict, parse
from proxyless_jax.run.parallel import (
  check_devices,
  check_shared,
  make_mesh,
  place,
  shared_by,
)
from proxyless_jax.run.result import write_result
from proxyless_jax.run.searching import derive_network, search_stage
from proxyless_jax.run.spawning import check_main
from proxyless_jax.run.stage import run_stage
from proxyless_jax.run.training import (
  evaluate_network,
  recalibrate,
  train_stage,
  train_steps,
  trained,
)
from proxyless_jax.run.weights import load_weights
from proxyless_jax.run.workdir import checked, claim, reached
from proxyless_jax.space import Network, Op, load_network
from proxyless_jax.space.suggest import nearest
from proxyless_jax.space.zoo import NETWORKS, zoo

# What may change between two starts on one workdir: always; before the first
# step of the training; and after it.
MAY_DIFFER = ("job", "run", "data.path", "data.workers", "evaluate")
BEFORE_TRAINING = ("train", "data.cutout")
IN_TRAINING = ("train.epochs",)
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
  options, dataset = _open(config, workdir)
  space = options.make_space(dataset.classes)
  _check_drop_path(options, space)
  calls = Calls(space, options.search.costs, workdir)
  stage = search_stage(options, dataset, space, calls)
  _claim(config, workdir, options, dataset)
  _keep_contents(options, dataset, workdir)
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
    variables = trained.average
  return _finish(options, dataset, network, variables, workdir, seconds, more)


def train(config: Mapping[str, Any], workdir: str | os.PathLike) -> dict:
  """Trains `config.network`, or the workdir's architecture, and evaluates.

  Args, returns, raises: as `search`.
  """
  workdir = checked(workdir)
  options, dataset = _open(config, workdir)
  network = _network(options, dataset, workdir)
  _check_drop_path(options, network)
  variables = load_weights(options, network)
  stage = train_stage(options, dataset, network, variables)
  _claim(config, workdir, options, dataset)
  _keep_contents(options, dataset, workdir)
  hosts.on_first(lambda: _keep_network(network, workdir))
  state, seconds = run_stage(stage, workdir, options.run)
  seconds = {"train": seconds}
  return _finish(options, dataset, network, state.average, workdir, seconds, {})


def evaluate(config: Mapping[str, Any], workdir: str | os.PathLike) -> dict:
  """Evaluates `config.weights`, or the newest trained weights of the workdir.

  Args, returns, raises: as `search`.
  """
  workdir = checked(workdir)
  options, dataset = _open(config, workdir)
  network = _network(options, dataset, workdir)
  variables = load_weights(options, network)
  _claim(config, workdir, options, dataset)
  _keep_contents(options, dataset, workdir)
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


def _open(config, workdir) -> tuple[Options, Any]:
  check_devices()
  keep_compiled()
  options = parse(config)
  check_main(options.data.workers)
  hosts.check_same("config", _as_dict(config))
  names = hosts.on_first(lambda: kept_classes(workdir))
  with fields.in_section("data", DataOptions):
    dataset = load(
      options.data, test_only=options.job == "evaluate", names=tuple(names)
    )
  hosts.check_same("data", {"classes": dataset.names, **dataset.contents})
  _say(dataset.notes)
  if options.job == "search":
    with fields.in_section("data", DataOptions):
      _say(check_search(options.data, dataset))
  _check_batches(options, dataset)
  return options, dataset


def _claim(config, workdir, options: Options, dataset) -> None:
  """Takes the workdir, or says what is another than at the last start."""
  hosts.on_first(lambda: _claim_on_first(config, workdir, options, dataset))
  hosts.check_shared(workdir)


def _claim_on_first(config, workdir, options: Options, dataset) -> None:
  evaluates = options.job == "evaluate"
  step = reached(workdir).get("train")
  may_differ = MAY_DIFFER
  may_differ += BEFORE_TRAINING if step is None else IN_TRAINING
  if evaluates and not options.weights:
    may_differ += ("weights",)  # Those that were trained from them.
  if step is not None and not evaluates:
    _check_reached(options, len(dataset.train), step, workdir)
  # An evaluation changes nothing of the run that it looks at.
  changes = claim(workdir, _as_dict(config), may_differ, keeps=not evaluates)
  if not changes:
    return
  said = f"config, since the last start: {'; '.join(changes)}"
  goes_on = step is not None and not evaluates
  if goes_on and any(change.startswith(IN_TRAINING) for change in changes):
    said += (
      f"; the training goes on at step {step}, with the learning rate that "
      "the new length gives that step"
    )
  print(said, file=sys.stderr, flush=True)


def _check_reached(options: Options, images: int, step: int, workdir) -> None:
  """Refuses a training that would end before the step that it is at."""
  train = options.train
  steps, _ = train_steps(train, images)
  if steps < step:
    least = math.ceil(100 * step * train.batch / images) / 100
    raise ValueError(
      f"train.epochs = {train.epochs}: expected {least} or more, since these "
      f"are {steps} steps, and the training in {os.fspath(workdir)} is at step "
      f"{step}: set more, or use another workdir"
    )


def _keep_contents(options: Options, dataset, workdir) -> None:
  stages = {"search": ["search"], "train": ["train"], "evaluate": []}
  stages = stages[options.job]
  if options.job == "search" and options.train.enabled:
    stages.append("train")
  about = dataset.names, dataset.contents, stages
  _say(hosts.on_first(lambda: keep_contents(workdir, *about)))


def _say(notes: Iterable[str]) -> None:
  if hosts.first():
    for note in notes:
      print(note, file=sys.stderr, flush=True)


def _check_batches(options: Options, dataset) -> None:
  """Of every stage at once: that of training would come after the search."""
  sections = {}
  if options.job != "evaluate":
    sections["train"] = (options.train, dataset.train)
  if options.job == "search":
    sections["search"] = (options.search, dataset.weights)
    sections["search.arch"] = (options.search.arch, dataset.arch)
  large = {
    name: (section, len(subset))
    for name, (section, subset) in sections.items()
    if section.batch > len(subset)
  }
  if large:
    raise ValueError(_too_large(large))
  for name, (section, _) in sections.items():
    check_shared(f"{name}.batch", section.batch, section.accumulate)


def _too_large(large: Mapping[str, tuple[Any, int]]) -> str:
  """What is said of batches above their split: all, with flags that would do.

  Args:
    large: the section of each, and the images of its split.
  """
  problems, flags = [], []
  for name, (section, images) in large.items():
    problems.append(f"{name}.batch = {section.batch} of {images}")
    fitting = images - images % shared_by(section.accumulate)
    if not fitting:
      fitting = images - images % shared_by(1)
      flags.append(f"--config.{name}.accumulate=1")
    if not fitting:
      return f"{'; '.join(problems)}: fewer images than devices: use fewer"
    flags.append(f"--config.{name}.batch={fitting}")
  return (
    f"{', '.join(problems)} images: expected batches of at most the images of "
    f"their splits: use more images, or {' '.join(flags)}"
  )


def _check_drop_path(options: Options, network: Network) -> None:
  if options.train.drop_path and not network.drops_paths:
    raise ValueError(
      f"train.drop_path = {options.train.drop_path}: expected 0, since no edge "
      "of the network has a shortcut beside it"
    )


def _as_dict(config) -> dict:
  """The config as JSON can hold it: operations and functions by names."""
  plain = as_dict(config)
  space = dict(plain["space"])
  if "candidates" in space:
    space["candidates"] = [
      op.name if isinstance(op, Op) else op for op in space["candidates"]
    ]
  search = dict(plain["search"])
  search["costs"] = {
    name: {**cost, "kind": _name(cost["kind"])}
    for name, cost in search["costs"].items()
  }
  return {**plain, "space": space, "search": search}


def _name(kind: str | Callable) -> str:
  """Of a function: of what it wraps, and of an object, its type."""
  while isinstance(kind, functools.partial):
    kind = kind.func
  if not callable(kind):
    return kind
  return getattr(kind, "__qualname__", type(kind).__qualname__)


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
  candidates = options.space.get("candidates", ())
  own = [op for op in candidates if isinstance(op, Op)]
  where = f"network = {path!r}"
  try:
    network = load_network(path, own, **shape)
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
