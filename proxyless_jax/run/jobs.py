"""search(), train(), evaluate(), measure(): a config in, a result out.

Each takes a config and a workdir. Called again with the same, it resumes. Each
runs in the same order: everything that can be wrong is checked before the
workdir is claimed and before any compute; what is found is written as soon as
it is known.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax

from proxyless_jax.data import DataOptions, load
from proxyless_jax.data.dataset import Dataset
from proxyless_jax.nas import gates, objective
from proxyless_jax.nn import inherit
from proxyless_jax.parallel.mesh import check_devices, make_mesh, place
from proxyless_jax.report import read_metrics
from proxyless_jax.run.architecture import (
  check_drop_path,
  find_network,
  keep_network,
)
from proxyless_jax.run.black_box import Calls
from proxyless_jax.run.claiming import claim_run, own_names
from proxyless_jax.run.config import fields
from proxyless_jax.run.config.options import Options, parse
from proxyless_jax.run.config.sections import RunOptions, TrainOptions
from proxyless_jax.run.config.space import check_searched, own_ops
from proxyless_jax.run.costs import check_targets, keep_tables, make_costs
from proxyless_jax.run.derivation import derive_path, describe_network
from proxyless_jax.run.derive_stage import (
  check_paths,
  compare_stage,
  derive_stage,
  keep_compared,
  keep_paths,
  of_comparison,
)
from proxyless_jax.run.ends import describe_end
from proxyless_jax.run.evaluation import evaluate_network, recalibrate
from proxyless_jax.run.hosts import hosts
from proxyless_jax.run.loop import run_stage
from proxyless_jax.run.measuring import measure_space
from proxyless_jax.run.opening import open_run
from proxyless_jax.run.plan import network_plan, search_plan
from proxyless_jax.run.random_networks import with_random
from proxyless_jax.run.reporting import keep_search
from proxyless_jax.run.result import write_result
from proxyless_jax.run.search_stage import search_stage
from proxyless_jax.run.storage.compilation import keep_compiled
from proxyless_jax.run.storage.variables import keep_variables, on_host
from proxyless_jax.run.storage.workdir import checked
from proxyless_jax.run.story import found_lines
from proxyless_jax.run.train_stage import (
  train_images,
  train_keys,
  train_stage,
  trained,
)
from proxyless_jax.run.weights import load_weights
from proxyless_jax.space import Network


def search(
  config: Mapping[str, Any],
  workdir: str | os.PathLike,
  *,
  draw: gates.Draw = gates.draw,
  terms: Sequence[objective.Term] = (),
  tx: optax.GradientTransformation | None = None,
  arch_tx: optax.GradientTransformation | None = None,
) -> dict:
  """Searches, derives, trains where `config.train.enabled`, and evaluates.

  Args:
    config: a `ConfigDict`, such as `pj.configs.mnist.get_config()` returns, or
      nested dicts; fields that it leaves out have the defaults of
      `run.config.options.Options`.
    workdir: folder of the run, on a file system of this machine; a run that
      was stopped in it is resumed.
    draw, terms, tx, arch_tx: functions and optimizers of your own, see
      `run.search_stage.search_stage`. A resumed run must be given the same
      ones again.

  Returns:
    The contents of `result.json`: one flat dict.

  Raises:
    ValueError: a wrong config, data or workdir, before any compute.
    FloatingPointError: loss or weights became NaN or infinite.
    KeyboardInterrupt: Ctrl-C came; within a stage, its last step is saved.
  """
  workdir = checked(workdir)
  options, dataset = open_run(config, workdir, "search")
  space = options.make_space(dataset.classes)
  check_drop_path(options.train, space)
  check_searched(options.space, space)
  check_paths(options.derive, space)
  costs = make_costs(options.search.costs, space)
  check_targets(costs, space)
  calls = Calls(space, options.search.costs, workdir)
  own: dict[str, Any] = dict(draw=draw, terms=terms, tx=tx, arch_tx=arch_tx)
  stage = search_stage(options, dataset, space, costs, calls, **own)
  claim_run(workdir, options, dataset, own_names(**own))
  hosts.on_first(lambda: keep_tables(workdir, costs))
  hosts.on_first(lambda: keep_search(workdir, space, costs))
  hosts.print_lines(search_plan(options, dataset, space, costs, stage, workdir))
  seconds: dict[str, float] = {}
  state, seconds["search"] = run_stage(stage, workdir, options.run)
  state = place(state, make_mesh())
  index, found = _derive(
    options, dataset, space, costs, state, workdir, seconds
  )
  network, of_network = describe_network(
    options.search.costs, space, costs, index, calls
  )
  found |= of_network
  hosts.on_first(lambda: keep_network(network, workdir))
  hosts.print_lines(found_lines(network, found))
  variables = None
  if options.train.inherit or not options.train.enabled:
    variables = _inherited(options, dataset, space, state, network)
  if options.train.enabled:
    stage = train_stage(options, dataset, network, variables)
    state, seconds["train"] = run_stage(stage, workdir, options.run)
    variables = state.ema
  assert variables is not None  # They are inherited, trained, or both.
  result = _finish(
    options, dataset, network, variables, workdir, seconds, found
  )
  return hosts.on_first(lambda: with_random(workdir, result))


def train(config: Mapping[str, Any], workdir: str | os.PathLike) -> dict:
  """Trains `config.network`, or the workdir's architecture, and evaluates.

  Args, returns, raises: as `search`.
  """
  workdir = checked(workdir)
  options, dataset = open_run(config, workdir, "train")
  network = _network(options, dataset, workdir)
  check_drop_path(options.train, network)
  variables = load_weights(
    options.weights,
    network,
    key=train_keys(options.seed)[0],
    freeze=options.train.freeze,
  )
  stage = train_stage(options, dataset, network, variables)
  claim_run(workdir, options, dataset)
  hosts.on_first(lambda: keep_network(network, workdir))
  hosts.print_lines(network_plan(options, dataset, network, workdir))
  state, train_seconds = run_stage(stage, workdir, options.run)
  seconds = {"train": train_seconds}
  return _finish(options, dataset, network, state.ema, workdir, seconds)


def evaluate(config: Mapping[str, Any], workdir: str | os.PathLike) -> dict:
  """Evaluates `config.weights`, or the newest trained weights of the workdir.

  Args, returns, raises: as `search`.
  """
  workdir = checked(workdir)
  options, dataset = open_run(config, workdir, "evaluate")
  network = _network(options, dataset, workdir)
  variables, found = load_weights(options.weights, network), {}
  claim_run(workdir, options, dataset)
  hosts.on_first(lambda: keep_network(network, workdir))
  hosts.print_lines(network_plan(options, dataset, network, workdir))
  if variables is None:
    found["step"], variables = _trained(
      options.train, options.run, network, workdir
    )
  return _finish(options, dataset, network, variables, workdir, {}, found)


def measure(config: Mapping[str, Any], workdir: str | os.PathLike) -> dict:
  """Measures the table of the config's space, and checks it.

  Writes table.json, which `cost_table` reads; predicted.png and .svg;
  result.json; and measure.jsonl, from which a stopped run continues.

  Args:
    config: a config, as for `search`.
    workdir: folder of the run.

  Returns:
    The contents of `result.json`: one flat dict.

  Raises:
    ValueError: a wrong config, or the workdir of another measurement.
    ImportError: an extra that the runtime needs is not installed.
  """
  workdir = checked(workdir)
  check_devices()
  options = parse(config, "measure")
  hosts.refuse_several("job 'measure'")
  keep_compiled()
  with fields.in_section("data", DataOptions):
    classes = options.measure.classes or load(options.data).classes
  space = options.make_space(classes)
  return measure_space(space, options.measure, workdir, seed=options.seed)


def _network(options: Options, dataset: Dataset, workdir: str) -> Network:
  """The architecture to train or to evaluate."""
  own = own_ops(options.space)
  return find_network(
    options.network, workdir, options.data, dataset.classes, own
  )


def _derive(
  options: Options,
  dataset: Dataset,
  space: Network,
  costs: Sequence[objective.Cost],
  state: Any,
  workdir: str,
  seconds: dict[str, float],
) -> tuple[np.ndarray, dict]:
  """The path that the config's method derives from a search.

  Args:
    options: options of the run.
    dataset: images, of which the part `arch` is used.
    space: the search space.
    costs: the costs with their tables.
    state: the last state of the search.
    workdir: folder of the run.
    seconds: seconds by stage, to which those of this one are added.

  Returns:
    i64[e], and entries of the result.
  """
  arch, top1 = np.asarray(state.arch), None
  variables = {"params": state.params, "batch_stats": state.batch_stats}
  assert dataset.arch is not None  # A search has all parts.
  common = options, dataset.arch, space, costs, variables
  if options.derive.method == "argmax":
    index, found = derive_path(arch, space, costs)
  else:
    scores, seconds["derive"] = run_stage(
      derive_stage(*common), workdir, options.run
    )
    scores = jax.device_get(scores)
    values = hosts.on_first(lambda: keep_paths(options, space, scores, workdir))
    top1 = float(np.mean(scores["top1"]))
    if values is None:
      index, found = scores["paths"][np.argmin(scores["loss"])], {}
    else:
      index, found = derive_path(np.array(values), space, costs)
  if options.derive.compare:
    stage = compare_stage(*common, index)
    scores, seconds["compare"] = run_stage(stage, workdir, options.run)
    scores = jax.device_get(scores)
    hosts.on_first(lambda: keep_compared(scores, workdir))
    found |= of_comparison(scores)
  valid = gates.valid_candidates(space)
  chance = dataset.arch.largest_share
  end = hosts.on_first(
    lambda: describe_end(
      options, arch, valid, read_metrics(workdir), chance, top1
    )
  )
  return index, {**found, **end}


def _inherited(
  options: Options,
  dataset: Dataset,
  space: Network,
  state: Any,
  network: Network,
) -> dict:
  """The variables of an architecture, from the state of the search."""
  # On the host: on a device each slice of a bank would be compiled separately.
  supernet = jax.device_get(
    {"params": state.params, "batch_stats": state.batch_stats}
  )
  variables = inherit(space, supernet, network)
  return recalibrate(
    network,
    jax.device_put(variables, may_alias=False),
    train_images(dataset),
    options.data,
    batch=options.train.batch // options.train.grad_accum,
    count=options.evaluate.recalibration_batches,
    seed=options.seed,
    dtype=options.compute_dtype,
  )


def _trained(
  train: TrainOptions, run: RunOptions, network: Network, workdir: str
) -> tuple[int, dict]:
  """The step of the newest checkpoint of a training, and its variables."""
  found = trained(train, run, network, workdir)
  if found is None:
    raise ValueError(
      f"workdir = {os.fspath(workdir)}: expected trained weights in "
      "checkpoints/train, found none: run job 'train' there first, or job "
      "'search' with train.enabled = True; or name the file of PyTorch weights "
      "in config.weights, and their network in config.network"
    )
  return found


def _finish(
  options: Options,
  dataset: Dataset,
  network: Network,
  variables: dict,
  workdir: str,
  seconds: Mapping[str, float],
  more: Mapping[str, Any] | None = None,
) -> dict:
  """Evaluates a network; keeps its weights; writes and returns the result."""
  start = time.perf_counter()
  scores = evaluate_network(
    network,
    variables,
    dataset.test,
    options.data,
    batch=options.evaluate.batch,
    dtype=options.compute_dtype,
  )
  seconds = {**seconds, "evaluate": time.perf_counter() - start}
  arrays = on_host(variables)
  hosts.on_first(lambda: keep_variables(workdir, network, arrays, scores))
  return hosts.on_first(
    lambda: write_result(
      workdir,
      job=options.job,
      network=network,
      scores=scores,
      seconds=seconds,
      more=dict(more or {}),
    )
  )
