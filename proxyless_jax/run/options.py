"""The options of a run: a config as frozen dataclasses, checked before use.

Every field of a config must be there and nothing else: defaults live in
`configs/`. The sections are `data` (`proxyless_jax.data.DataOptions`), `space`
(arguments of `mobile_space`), `search`, `train`, `evaluate` and `run`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

from proxyless_jax.data import DataOptions
from proxyless_jax.run import fields
from proxyless_jax.search.gates import MODES
from proxyless_jax.space import Network, mobile_space

JOBS = ("search", "train", "evaluate")
DTYPES = ("float32", "bfloat16")
# The streams of a run are seeded by the numbers from the seed on, below 2**32.
MAX_SEED = 2**32 - 16
FORMS = ("none", "linear", "log", "target")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CostOptions:
  """The cost in a search's objective.

  Attributes:
    kind: of the table, 'macs' or 'parameters'.
    form: 'none', 'linear', 'log' or 'target', see `search.objective`.
    reference: a quantity such as '40 M MACs': the reference of the published
      forms, the target that the derived network must not pass.
    weight: of the linear form; scale of the log form; rate of the multiplier
      of the target.
    exponent: of the log form.
  """

  kind: str
  form: str
  reference: str
  weight: float
  exponent: float

  def __post_init__(self):
    fields.one_of("search.cost.form", self.form, FORMS)
    if self.form != "none":
      fields.positive("search.cost.weight", self.weight)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArchOptions:
  """The architecture's part of a search.

  Attributes:
    lr, b1, b2, decay: of Adam.
    init_scale: standard deviation of the first alpha.
    mode: of the gates, 'full' or 'two'.
    every: weight steps from one architecture step to the next.
    after_epochs: of the weights' split, before the first one.
    batch: images per architecture step.
  """

  lr: float
  b1: float
  b2: float
  decay: float
  init_scale: float
  mode: str
  every: int
  after_epochs: float
  batch: int

  def __post_init__(self):
    fields.one_of("search.arch.mode", self.mode, MODES)
    fields.positive("search.arch.lr", self.lr)
    fields.positive("search.arch.every", self.every)
    fields.positive("search.arch.batch", self.batch)
    for field in ("decay", "init_scale", "after_epochs"):
      fields.not_negative(f"search.arch.{field}", getattr(self, field))
    for field in ("b1", "b2"):
      fields.fraction(f"search.arch.{field}", getattr(self, field))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOptions:
  """A search: a warm-up of the weights alone, then both in turn.

  Attributes:
    batch: images per weight step.
    warmup_epochs, epochs: of the weights' split.
    warmup_lr, lr: at the start of each stage; a cosine takes each to zero.
    momentum, nesterov, decay: of SGD.
    smoothing: of the labels.
    arch, cost: see there.
  """

  batch: int
  warmup_epochs: float
  epochs: float
  warmup_lr: float
  lr: float
  momentum: float
  nesterov: bool
  decay: float
  smoothing: float
  arch: ArchOptions
  cost: CostOptions

  def __post_init__(self):
    for field in ("batch", "epochs", "lr"):
      fields.positive(f"search.{field}", getattr(self, field))
    for field in ("warmup_epochs", "warmup_lr", "decay"):
      fields.not_negative(f"search.{field}", getattr(self, field))
    fields.fraction("search.smoothing", self.smoothing)
    fields.fraction("search.momentum", self.momentum)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions:
  """The training of an architecture.

  Attributes:
    enabled: whether a search goes on to train what it derived.
    inherit: start from the space's weights instead of from scratch.
    batch: images per step.
    epochs: of the training split.
    lr: at its highest; a cosine takes it to zero.
    linear_epochs: of a linear ramp at the start.
    momentum, nesterov, decay: of SGD.
    kernels_only: no decay of biases and of batch norm.
    smoothing: of the labels.
    dropout: rate before the classifier.
    average: decay of the moving average of the weights that is evaluated; 0
      evaluates the last ones.
  """

  enabled: bool
  inherit: bool
  batch: int
  epochs: float
  lr: float
  linear_epochs: float
  momentum: float
  nesterov: bool
  decay: float
  kernels_only: bool
  smoothing: float
  dropout: float
  average: float

  def __post_init__(self):
    for field in ("batch", "epochs", "lr"):
      fields.positive(f"train.{field}", getattr(self, field))
    for field in ("linear_epochs", "decay"):
      fields.not_negative(f"train.{field}", getattr(self, field))
    if self.linear_epochs >= self.epochs:
      raise ValueError(
        f"train.linear_epochs = {self.linear_epochs}: expected below "
        f"train.epochs = {self.epochs}"
      )
    for field in ("smoothing", "dropout", "average", "momentum"):
      fields.fraction(f"train.{field}", getattr(self, field))


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
  """The evaluation of an architecture.

  Attributes:
    batch: images at once.
    recalibration_batches: of training images, from which inherited weights
      get batch-norm statistics of their own path.
  """

  batch: int
  recalibration_batches: int

  def __post_init__(self):
    fields.positive("evaluate.batch", self.batch)
    fields.positive(
      "evaluate.recalibration_batches", self.recalibration_batches
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
  """How a run is watched and kept; may change from start to start.

  Attributes:
    log_every, checkpoint_every: in steps.
    keep: how many checkpoints stay.
  """

  log_every: int
  checkpoint_every: int
  keep: int

  def __post_init__(self):
    for field in ("log_every", "checkpoint_every", "keep"):
      fields.positive(f"run.{field}", getattr(self, field))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """A whole config.

  Attributes:
    job: 'search', 'train' or 'evaluate'.
    seed: of everything random but the split.
    dtype: of activations, 'float32' or 'bfloat16'.
    network: path of a network's JSON to train or evaluate; '' for the
      workdir's architecture.json.
    space: arguments of `mobile_space` but those that the data give.
    data, search, train, evaluate, run: see there.
  """

  job: str
  seed: int
  dtype: str
  network: str
  space: Mapping[str, Any]
  data: DataOptions
  search: SearchOptions
  train: TrainOptions
  evaluate: EvaluateOptions
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

  def make_space(self, classes: int) -> Network:
    """The space for the data.

    Raises:
      ValueError: the space does not fit the image size, or has unknown fields.
    """
    known = set(inspect.signature(mobile_space).parameters)
    known -= {"image_size", "channels", "classes"}
    fields.check_names("space", self.space, known, required=())
    try:
      return mobile_space(
        **self.space,
        image_size=self.data.image_size,
        channels=self.data.channels,
        classes=classes,
      )
    except (TypeError, ValueError) as error:
      raise ValueError(
        f"space (with data.image_size = {self.data.image_size}): {error}"
      ) from error


def parse(config: Mapping[str, Any]) -> Options:
  """Checks a config and turns it into options.

  Args:
    config: an `ml_collections.ConfigDict`, or nested dicts.

  Raises:
    ValueError: unknown, missing or wrong fields, named by their dotted path.
  """
  config = config.to_dict() if hasattr(config, "to_dict") else dict(config)
  return fields.read(Options, config)
