"""The sections of a config: of a search, a training, an evaluation, a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from proxyless_jax.nas.gates import MODES
from proxyless_jax.run.config import fields

# Of costs, by the algorithm that trains the architecture.
FORMS = {
  "gradient": ("linear", "log", "at_most", "exactly"),
  "reinforce": ("multiplicative", "absolute", "at_most", "exactly"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CostOptions:
  """One cost of a search.

  Attributes:
    kind: of the table, or its path, see `hardware.cost_table`; or a function
      of your own from a network to its cost in the unit of `reference`, which
      REINFORCE calls once for each network.
    form: see `search.objective`; 'at_most' and 'exactly' are targets.
    reference: a quantity such as '20 ms' or '40 M MACs': the target, or the
      reference of the published forms.
    weight: of the linear and absolute forms; scale of the log form; rate of
      the multiplier of a target.
    exponent: of the log and multiplicative forms.
  """

  kind: str | Callable
  form: str
  reference: str
  weight: float
  exponent: float

  def __post_init__(self):
    forms = dict.fromkeys(form for forms in FORMS.values() for form in forms)
    fields.one_of("form", self.form, tuple(forms))
    if self.form != "multiplicative":
      fields.positive("weight", self.weight)
    if self.form in ("log", "multiplicative"):
      fields.positive("exponent", self.exponent)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArchOptions:
  """The architecture's part of a search.

  Attributes:
    algorithm: 'gradient' through the gates, or 'reinforce'.
    lr, b1, b2, weight_decay: of Adam.
    init_scale: standard deviation of the first alpha.
    mode: of the gates by gradient, 'full' or 'two'.
    samples: drawn by REINFORCE for an update.
    baseline_decay: of REINFORCE's moving average of rewards.
    entropy_weight: of REINFORCE's bonus for the entropy of the draws.
    every: weight steps from one architecture step to the next.
    after_epochs: of the weights' split, before the first one.
    batch: images per architecture step.
    grad_accum: parts of a batch, in memory one after the other.
  """

  algorithm: str
  lr: float
  b1: float
  b2: float
  weight_decay: float
  init_scale: float
  mode: str
  samples: int
  baseline_decay: float
  entropy_weight: float
  every: int
  after_epochs: float
  batch: int
  grad_accum: int

  def __post_init__(self):
    fields.one_of("search.arch.algorithm", self.algorithm, tuple(FORMS))
    fields.one_of("search.arch.mode", self.mode, MODES)
    fields.positive("search.arch.samples", self.samples)
    fields.positive("search.arch.lr", self.lr)
    fields.positive("search.arch.every", self.every)
    fields.divides(
      "search.arch.grad_accum", self.grad_accum, "search.arch.batch", self.batch
    )
    for field in (
      "weight_decay",
      "entropy_weight",
      "init_scale",
      "after_epochs",
    ):
      fields.not_negative(f"search.arch.{field}", getattr(self, field))
    for field in ("b1", "b2", "baseline_decay"):
      fields.fraction(f"search.arch.{field}", getattr(self, field))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOptions:
  """A search: a warm-up of the weights alone, then both in turn.

  Attributes:
    batch: images per weight step.
    grad_accum: parts of a batch, in memory one after the other.
    lr_batch: the batch that the learning rates are for: those used are
      batch / lr_batch times as high (Goyal et al. 2017).
    warmup_epochs, epochs: of the weights' split.
    warmup_lr, lr: at the start of each stage; a cosine takes each to zero.
    momentum, nesterov, weight_decay: of SGD.
    label_smoothing: of the labels.
    path_per_device: each device draws paths of its own, instead of all one.
    arch: see there.
    costs: by names of your own; none for accuracy alone.
  """

  batch: int
  grad_accum: int
  lr_batch: int
  warmup_epochs: float
  epochs: float
  warmup_lr: float
  lr: float
  momentum: float
  nesterov: bool
  weight_decay: float
  label_smoothing: float
  path_per_device: bool
  arch: ArchOptions
  costs: Mapping[str, CostOptions]

  def __post_init__(self):
    for field in ("batch", "lr_batch", "epochs", "lr"):
      fields.positive(f"search.{field}", getattr(self, field))
    fields.divides(
      "search.grad_accum", self.grad_accum, "search.batch", self.batch
    )
    for field in ("warmup_epochs", "warmup_lr", "weight_decay"):
      fields.not_negative(f"search.{field}", getattr(self, field))
    fields.fraction("search.label_smoothing", self.label_smoothing)
    fields.fraction("search.momentum", self.momentum)
    for name, cost in self.costs.items():
      self._check_cost(name, cost)

  def _check_cost(self, name: str, cost: CostOptions):
    where, algorithm = f"search.costs.{name}", self.arch.algorithm
    if not name.isidentifier():
      raise ValueError(
        f"search.costs has the name {name!r}: expected letters, digits and "
        "underscores, since metrics have it in theirs"
      )
    if cost.form not in FORMS[algorithm]:
      raise ValueError(
        f"{where}.form = {cost.form!r}: expected one of {FORMS[algorithm]} for "
        f"search.arch.algorithm = {algorithm!r}"
      )
    if callable(cost.kind) and algorithm == "gradient":
      raise ValueError(
        f"{where}.kind = {cost.kind!r}: expected a table, since a function has "
        "no gradient: use search.arch.algorithm = 'reinforce'"
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions:
  """The training of an architecture.

  Attributes:
    enabled: whether a search goes on to train what it derived.
    freeze: train the classifier alone, from `config.weights`. All else stays
      bit for bit: batch norm runs as in evaluation, paths are not dropped.
    inherit: start from the space's weights instead of from scratch.
    batch: images per step.
    grad_accum: parts of a batch, in memory one after the other.
    lr_batch: the batch that the learning rate is for: the one used is
      batch / lr_batch times as high (Goyal et al. 2017).
    epochs: of the training split.
    lr: at its highest; a cosine takes it to zero.
    lr_warmup_epochs: of a linear ramp at the start.
    momentum, nesterov, weight_decay: of SGD.
    kernels_only: no decay of biases and of batch norm.
    label_smoothing: of the labels.
    dropout: rate before the classifier.
    drop_path: rate at which paths beside shortcuts, and branches of cells,
      are dropped at the end of training; it grows from 0 in proportion to the
      steps.
    ema_decay: decay of the moving average of the weights that is evaluated; 0
      evaluates the last ones.
  """

  enabled: bool
  freeze: bool
  inherit: bool
  batch: int
  grad_accum: int
  lr_batch: int
  epochs: float
  lr: float
  lr_warmup_epochs: float
  momentum: float
  nesterov: bool
  weight_decay: float
  kernels_only: bool
  label_smoothing: float
  dropout: float
  drop_path: float
  ema_decay: float

  def __post_init__(self):
    for field in ("batch", "lr_batch", "epochs", "lr"):
      fields.positive(f"train.{field}", getattr(self, field))
    fields.divides(
      "train.grad_accum", self.grad_accum, "train.batch", self.batch
    )
    for field in ("lr_warmup_epochs", "weight_decay"):
      fields.not_negative(f"train.{field}", getattr(self, field))
    if self.lr_warmup_epochs >= self.epochs:
      raise ValueError(
        f"train.lr_warmup_epochs = {self.lr_warmup_epochs}: expected below "
        f"train.epochs = {self.epochs}"
      )
    for field in (
      *("label_smoothing", "dropout", "drop_path", "ema_decay", "momentum"),
    ):
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
    shard_state: each device keeps a part of weights and optimizers, instead
      of all of them.
  """

  log_every: int
  checkpoint_every: int
  keep: int
  shard_state: bool

  def __post_init__(self):
    for field in ("log_every", "checkpoint_every", "keep"):
      fields.positive(f"run.{field}", getattr(self, field))
