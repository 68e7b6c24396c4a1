"""The options of a run: a config as frozen dataclasses, checked before use.

A config may leave out sections and fields, which then have their defaults; a
name that is not known is an error. The sections are `data`
(`proxyless_jax.data.DataOptions`), `space`, `search`, `derive`, `train`,
`evaluate`, `predict`, `export`, `random`, `measure` and `run`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from proxyless_jax.data import DataOptions
from proxyless_jax.run.config import fields
from proxyless_jax.run.config.export_options import ExportOptions
from proxyless_jax.run.config.measure_options import MeasureOptions
from proxyless_jax.run.config.predict_options import PredictOptions
from proxyless_jax.run.config.sections import (
  CostOptions,
  DeriveOptions,
  EvaluateOptions,
  RandomOptions,
  RunOptions,
  SearchOptions,
  TrainOptions,
)
from proxyless_jax.run.config.space import Space, make_space, read_space
from proxyless_jax.space import Network, Op

JOBS = (
  *("search", "train", "evaluate", "predict", "export"),
  *("random", "measure"),
)
DTYPES = ("auto", "float32", "bfloat16")
# The streams of a run are seeded by the numbers from the seed on, below 2**32.
MAX_SEED = 2**32 - 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """A whole config.

  Attributes:
    job: 'search', 'train', 'evaluate', 'predict', 'export', 'random' or
      'measure'.
    seed: seed of everything random but the split of the data.
    dtype: type of activations, 'float32' or 'bfloat16'; 'auto' is bfloat16 on
      accelerators, float32 on a CPU.
    network: architecture to train or evaluate: a name of `pj.zoo`, or the path
      of a network's JSON or of a `net.config` (`pj.load_network`); '' for the
      workdir's architecture.json.
    weights: path of PyTorch weights (.pth) to evaluate, or to start training
      from, where they may be for other classes or input channels; '' for those
      of the workdir, or for fresh ones. 'FILE#PART' takes a part of a file that
      holds several, see `exchange.read_torch`.
    data: images and labels.
    space: search space: a family, 'mobile' or 'tree', with those arguments of
      `mobile_space` or `tree_space` that the data do not give; or a network of
      your own with several candidates on its edges, or the path of its JSON.
    search: search for an architecture.
    derive: derivation of the architecture at the end of a search.
    train: training of the architecture.
    evaluate: evaluation of the architecture.
    predict: classification of images by the network of a run that has ended.
    export: export of the network of a run that has ended.
    random: random networks, with which the architecture is compared.
    measure: measurement of a table of costs.
    run: logs, checkpoints and placement of a run.
  """

  job: str = "search"
  seed: int = 0
  dtype: str = "auto"
  network: str = ""
  weights: str = ""
  data: DataOptions = field(default_factory=DataOptions)
  space: Space = field(default_factory=dict)
  search: SearchOptions = field(default_factory=SearchOptions)
  derive: DeriveOptions = field(default_factory=DeriveOptions)
  train: TrainOptions = field(default_factory=TrainOptions)
  evaluate: EvaluateOptions = field(default_factory=EvaluateOptions)
  predict: PredictOptions = field(default_factory=PredictOptions)
  export: ExportOptions = field(default_factory=ExportOptions)
  random: RandomOptions = field(default_factory=RandomOptions)
  measure: MeasureOptions = field(default_factory=MeasureOptions)
  run: RunOptions = field(default_factory=RunOptions)

  def __post_init__(self) -> None:
    fields.one_of("job", self.job, JOBS)
    fields.one_of("dtype", self.dtype, DTYPES)
    if not 0 <= self.seed <= MAX_SEED:
      raise ValueError(f"seed = {self.seed}: expected 0 to {MAX_SEED}")
    object.__setattr__(self, "space", read_space(self.space))
    self._check_search()
    self._check_training()
    self._check_network()

  def _check_search(self) -> None:
    """Raises a ValueError for a search without steps that its end needs."""
    if not self.search.epochs and self.derive.method == "argmax":
      raise ValueError(
        f"search.epochs = {self.search.epochs}: expected above 0, since no "
        "step would train the architecture; or derive.method = 'additive' or "
        "'evolution', which need none"
      )
    if not self.search.epochs and not self.search.warmup_epochs:
      raise ValueError(
        "search.warmup_epochs = 0 and search.epochs = 0: expected one of them "
        "above 0, else no step trains the weights"
      )

    if self.derive.method != "argmax":
      for name, cost in self.search.costs.items():
        self._check_derived(f"search.costs.{name}", cost)

  def _check_derived(self, where: str, cost: CostOptions) -> None:
    """Raises a ValueError for a cost that the derivation would not see."""
    method = f"derive.method = {self.derive.method!r}"
    if callable(cost.kind):
      raise ValueError(
        f"{where}.kind = {cost.kind!r}: expected a table with {method}, which "
        "does not use what the search learned of a function: use 'argmax'"
      )
    if cost.form not in ("at_most", "exactly"):
      raise ValueError(
        f"{where}.form = {cost.form!r}: expected 'at_most' or 'exactly' with "
        f"{method}, which takes the best network within the targets"
      )

  def _check_training(self) -> None:
    """Raises a ValueError for a way of training that the job has not."""
    if self.job == "train" and self.train.inherit:
      raise ValueError(
        "train.inherit = True: expected False for job 'train', since weights "
        "are inherited from a search: use job 'search' with train.enabled"
      )
    if self.job == "random" and self.train.inherit:
      raise ValueError(
        "train.inherit = True: expected False for job 'random', whose networks "
        "are trained from scratch, as the found one must be for a comparison"
      )
    if self.train.freeze and (
      self.job in ("search", "random")
      or (self.job == "train" and not self.weights)
    ):
      raise ValueError(
        f"train.freeze = True: expected False for job {self.job!r} with "
        f"weights = {self.weights!r}: weights that stay as they are must be "
        "trained ones: use job 'train' with their file in config.weights"
      )

  def _check_network(self) -> None:
    """Raises a ValueError for what the job does not read."""
    if self.job in ("search", "random") and self.network:
      raise ValueError(
        f"network = {self.network!r}: expected '' for job {self.job!r}, which "
        "finds its own: to train this one, use job 'train', the variant :train "
        "of configs"
      )
    if self.weights and (self.job in ("search", "random") or not self.network):
      raise ValueError(
        f"weights = {self.weights!r}: expected '' for job {self.job!r} with "
        f"network = {self.network!r}: weights are of a network that is named, "
        "to train or to evaluate"
      )

  @property
  def compute_dtype(self) -> jnp.dtype:
    """Of activations, on the device at hand."""
    if self.dtype != "auto":
      return jnp.dtype(self.dtype)
    on_cpu = jax.default_backend() == "cpu"
    return jnp.dtype("float32" if on_cpu else "bfloat16")

  def make_space(self, classes: int) -> Network:
    """The search space for the data, see `space.make_space`."""
    return make_space(
      self.space,
      image_size=self.data.image_size,
      channels=self.data.channels,
      classes=classes,
    )


def parse(config: Mapping[str, Any], job: str | None = None) -> Options:
  """Checks a config and turns it into options, with `~` in paths expanded.

  Args:
    config: an `ml_collections.ConfigDict`, or nested dicts; sections and fields
      that are left out have their defaults.
    job: job that is run, whatever `config.job` says; None for that one.

  Raises:
    ValueError: unknown or wrong fields, named by their dotted path.
  """
  values = as_dict(config)
  return _expanded(
    fields.read(Options, {**values, "job": job} if job else values)
  )


def _expanded(options: Options) -> Options:
  """With the folder that `~` stands for in every path: shells leave it be.

  After `--config.data.path=` it is not at the beginning of a word.
  """
  home = os.path.expanduser
  costs = {
    name: dataclasses.replace(
      cost, kind=cost.kind if callable(cost.kind) else home(cost.kind)
    )
    for name, cost in options.search.costs.items()
  }
  return dataclasses.replace(
    options,
    network=home(options.network),
    weights=home(options.weights),
    data=dataclasses.replace(options.data, path=home(options.data.path)),
    search=dataclasses.replace(options.search, costs=costs),
    predict=PredictOptions(
      images=home(options.predict.images), out=home(options.predict.out)
    ),
    export=dataclasses.replace(options.export, path=home(options.export.path)),
  )


def as_dict(config: Any) -> dict:
  """The nested dicts of a config.

  Raises:
    ValueError: it is no config.
  """
  if hasattr(config, "to_dict"):
    config = config.to_dict()
  if isinstance(config, Mapping):
    return dict(config)
  got = f"of type {type(config).__name__}"
  if isinstance(config, str | os.PathLike):
    got = f"the path {os.fspath(config)!r}"
  raise ValueError(
    f"config is {got}: expected a ConfigDict, such as get_config() of a file "
    "of a config gives: `pj.configs.mnist.get_config()`"
  )


def as_json(options: Options) -> dict[str, Any]:
  """All options as JSON can hold them.

  A network is its JSON; operations and functions are their names. Defaults are
  written out: a run does not continue unnoticed with those of another release.
  """
  names = [one.name for one in dataclasses.fields(options)]
  return {name: _plain(getattr(options, name)) for name in names}


def _plain(value: Any) -> Any:
  if isinstance(value, Network):
    return json.loads(value.to_json())
  if isinstance(value, Op):
    return value.name
  if dataclasses.is_dataclass(value) and not callable(value):
    names = [one.name for one in dataclasses.fields(value)]
    return {name: _plain(getattr(value, name)) for name in names}
  if isinstance(value, Mapping):
    return {name: _plain(item) for name, item in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(item) for item in value]
  return function_name(value) if callable(value) else value


def function_name(function: Callable) -> str:
  """Name of a function: of the one it wraps; of an object's type.

  Args:
    function: anything that can be called.
  """
  while isinstance(function, functools.partial):
    function = function.func
  return getattr(function, "__qualname__", type(function).__qualname__)
