"""The options of a run: a config as frozen dataclasses, checked before use.

Every field of a config must be there and nothing else: defaults live in
`configs/`. The sections are `data` (`proxyless_jax.data.DataOptions`), `space`,
`search`, `train`, `evaluate`, `measure` and `run`.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from proxyless_jax.data import DataOptions
from proxyless_jax.run.config import fields
from proxyless_jax.run.config.measure_options import MeasureOptions
from proxyless_jax.run.config.sections import (
  EvaluateOptions,
  RunOptions,
  SearchOptions,
  TrainOptions,
)
from proxyless_jax.space import Network, mobile_space, tree_space

JOBS = ("search", "train", "evaluate", "measure")
SPACES = {"mobile": mobile_space, "tree": tree_space}
# The arguments of spaces that the data give, the classes last.
FROM_DATA = ("image_size", "channels", "classes")
DTYPES = ("auto", "float32", "bfloat16")
# The streams of a run are seeded by the numbers from the seed on, below 2**32.
MAX_SEED = 2**32 - 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """A whole config.

  Attributes:
    job: 'search', 'train', 'evaluate' or 'measure'.
    seed: of everything random but the split.
    dtype: of activations, 'float32' or 'bfloat16'; 'auto' is bfloat16 on
      accelerators, float32 on a CPU.
    network: what to train or evaluate: a name of `pj.zoo`, or the path of a
      network's JSON or of a `net.config` (`pj.load_network`); '' for the
      workdir's architecture.json.
    weights: path of PyTorch weights (.pth) to evaluate, or to start training
      from, where they may be for other classes or input channels; '' for those
      of the workdir, or for fresh ones. 'FILE#PART' takes a part of a file that
      holds several, see `exchange.read_torch`.
    space: its family, 'mobile' or 'tree', and the arguments of `mobile_space`
      or `tree_space` but those that the data give.
    data, search, train, evaluate, measure, run: see there.
  """

  job: str
  seed: int
  dtype: str
  network: str
  weights: str
  space: Mapping[str, Any]
  data: DataOptions
  search: SearchOptions
  train: TrainOptions
  evaluate: EvaluateOptions
  measure: MeasureOptions
  run: RunOptions

  def __post_init__(self):
    fields.one_of("job", self.job, JOBS)
    fields.one_of("dtype", self.dtype, DTYPES)
    if not 0 <= self.seed <= MAX_SEED:
      raise ValueError(f"seed = {self.seed}: expected 0 to {MAX_SEED}")
    if self.job == "train" and self.train.inherit:
      raise ValueError(
        "train.inherit = True: expected False for job 'train', since weights "
        "are inherited from a search: use job 'search' with train.enabled"
      )
    if self.train.freeze and (
      self.job == "search" or (self.job == "train" and not self.weights)
    ):
      raise ValueError(
        f"train.freeze = True: expected False for job {self.job!r} with "
        f"weights = {self.weights!r}: weights that stay as they are must be "
        "trained ones: use job 'train' with their file in config.weights"
      )
    if self.job == "search" and self.network:
      raise ValueError(
        f"network = {self.network!r}: expected '' for job 'search', which "
        "finds one: to train it, use job 'train', the variant :train of configs"
      )
    if self.weights and (self.job == "search" or not self.network):
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
    """The space for the data.

    Raises:
      ValueError: the space does not fit the image size, or has unknown fields.
    """
    family = self.space.get("family")
    fields.one_of("space.family", family, tuple(SPACES))
    make = SPACES[family]
    arguments = {k: v for k, v in self.space.items() if k != "family"}
    known = set(space_defaults(family))
    fields.check_names("space", arguments, known, required=())
    try:
      return make(
        **arguments,
        image_size=self.data.image_size,
        channels=self.data.channels,
        classes=classes,
      )
    except (TypeError, ValueError) as error:
      raise ValueError(_dotted(str(error), known)) from error


def space_defaults(family: object) -> dict[str, Any]:
  """The fields of a space of a family, with the values where they are left out.

  None for a family that is not one of `SPACES`.
  """
  if family not in SPACES:
    return {}
  parameters = inspect.signature(SPACES[family]).parameters
  return {n: p.default for n, p in parameters.items() if n not in FROM_DATA}


def _dotted(problem: str, of_space: Collection[str]) -> str:
  """An error of a space's function, with the section of the field it names."""
  field = re.match(r"\w*", problem)[0]
  if field in of_space:
    return f"space.{problem}"
  return f"data.{problem}" if field in FROM_DATA[:2] else f"space: {problem}"


def parse(config: Mapping[str, Any]) -> Options:
  """Checks a config and turns it into options, with `~` in paths expanded.

  Args:
    config: an `ml_collections.ConfigDict`, or nested dicts.

  Raises:
    ValueError: unknown, missing or wrong fields, named by their dotted path.
  """
  return _expanded(fields.read(Options, as_dict(config)))


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
    "of configs/ gives: `from configs import mnist`, then mnist.get_config()"
  )
