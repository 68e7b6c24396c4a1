"""The sections of a config: of a search, a training, an evaluation, a run.

The defaults are the published recipe for ImageNet: Cai, Zhu, Han, ProxylessNAS,
ICLR 2019, and the search that its authors released. They are written down here
and in `data.options` alone; a file of `configs/` says what differs from them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import optax

from proxyless_jax.nas.gates import MODES
from proxyless_jax.run.config import fields
from proxyless_jax.training.optimizers import OPTIMIZERS, weight_optimizer

# Forms of a cost, by the algorithm that trains the architecture.
FORMS = {
  "gradient": ("linear", "log", "at_most", "exactly"),
  "reinforce": ("multiplicative", "absolute", "at_most", "exactly"),
}


DERIVE = ("argmax", "additive", "evolution")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CostOptions:
  """One cost of a search.

  Attributes:
    kind: name or path of a cost table, see `hardware.cost_table`; or a Python
      function from a network to its cost in the unit of `reference`, which
      REINFORCE calls once for each network that it draws.
    reference: quantity with its unit, such as '20 ms' or '40 M MACs': the
      target, or the reference cost of the published forms.
    form: term of the loss or the reward that the cost becomes, see
      `nas.objective`; 'at_most' and 'exactly' are targets.
    weight: factor of the linear and absolute forms, scale of the log form,
      learning rate of a target's multiplier.
    exponent: exponent of the log and multiplicative forms.
  """

  kind: str | Callable
  reference: str
  form: str = "log"
  weight: float = 0.2
  exponent: float = 0.3

  def __post_init__(self) -> None:
    forms = dict.fromkeys(form for forms in FORMS.values() for form in forms)
    fields.one_of("form", self.form, tuple(forms))
    if self.form != "multiplicative":
      fields.positive("weight", self.weight)
    if self.form in ("log", "multiplicative"):
      fields.positive("exponent", self.exponent)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArchOptions:
  """The training of the architecture parameters in a search.

  Attributes:
    algorithm: 'gradient' through the gates, or 'reinforce'.
    optimizer: 'adam', 'adamw', 'lion', or 'sgd', here without momentum; see
      `nas.optimizers.arch_optimizer`.
    lr: learning rate.
    b1: decay rate of the first moment of all but SGD.
    b2: decay rate of the second moment of all but SGD.
    weight_decay: factor of the parameters that is added to their gradient; of
      'adamw' and 'lion', to their update.
    init_scale: standard deviation of the initial parameters.
    mode: gates of the gradient's paths, 'full' (all candidates) or 'two'.
    samples: paths that REINFORCE draws for one update.
    baseline_decay: decay rate of REINFORCE's moving average of rewards.
    entropy_weight: weight of REINFORCE's bonus for the entropy of the
      distribution that paths are drawn from.
    every: weight steps from one architecture step to the next.
    after_epochs: epochs of the weights' split between the warm-up and the
      first architecture step.
    batch: images per architecture step.
    grad_accum: number of parts in which a batch is processed, one after the
      other, to save memory.
  """

  algorithm: str = "gradient"
  optimizer: str = "adam"
  lr: float = 1e-3
  b1: float = 0.0
  b2: float = 0.999
  weight_decay: float = 0.0
  init_scale: float = 1e-3
  mode: str = "full"
  samples: int = 10
  baseline_decay: float = 0.95
  entropy_weight: float = 0.0
  every: int = 5
  after_epochs: float = 1.0
  batch: int = 256
  grad_accum: int = 1

  def __post_init__(self) -> None:
    fields.one_of("search.arch.algorithm", self.algorithm, tuple(FORMS))
    fields.one_of("search.arch.mode", self.mode, MODES)
    fields.one_of("search.arch.optimizer", self.optimizer, OPTIMIZERS)
    for field in ("samples", "lr", "every"):
      fields.positive(f"search.arch.{field}", getattr(self, field))
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

  @property
  def parts(self) -> int:
    """The number of parts of a batch."""
    return self.grad_accum


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightOptions:
  """How weights are trained, in a search and in the training after it.

  Attributes:
    batch: images per step.
    grad_accum: number of parts in which a batch is processed, one after the
      other, to save memory.
    lr_batch: batch size that the learning rates are given for: the ones used
      are batch / lr_batch times as high (Goyal et al. 2017).
    optimizer: 'sgd', 'adam', 'adamw' or 'lion', see
      `training.optimizers.weight_optimizer`.
    momentum: momentum of SGD.
    nesterov: whether SGD's momentum is Nesterov's.
    b1: decay rate of the first moment of all but SGD.
    b2: decay rate of the second moment of all but SGD.
    weight_decay: factor of the weights that is added to their gradient; of
      'adamw' and 'lion', to their update.
    label_smoothing: share of the labels that is spread over all classes.
  """

  batch: int = 256
  grad_accum: int = 1
  lr_batch: int = 256
  optimizer: str = "sgd"
  momentum: float = 0.9
  nesterov: bool = True
  b1: float = 0.9
  b2: float = 0.999
  weight_decay: float = 4e-5
  label_smoothing: float = 0.1

  @property
  def parts(self) -> int:
    """The number of parts of a batch."""
    return self.grad_accum

  def tx(
    self, schedule: optax.Schedule, *, kernels_only: bool
  ) -> optax.GradientTransformationExtraArgs:
    """The optimizer of the weights.

    Args:
      schedule: learning rate by step.
      kernels_only: see `training.optimizers.weight_optimizer`.
    """
    return weight_optimizer(
      schedule,
      optimizer=self.optimizer,
      momentum=self.momentum,
      nesterov=self.nesterov,
      b1=self.b1,
      b2=self.b2,
      weight_decay=self.weight_decay,
      kernels_only=kernels_only,
    )

  def _check_weights(self, section: str) -> None:
    for field in ("batch", "lr_batch"):
      fields.positive(f"{section}.{field}", getattr(self, field))
    fields.divides(
      f"{section}.grad_accum", self.grad_accum, f"{section}.batch", self.batch
    )
    fields.not_negative(f"{section}.weight_decay", self.weight_decay)
    fields.one_of(f"{section}.optimizer", self.optimizer, OPTIMIZERS)
    for field in ("label_smoothing", "momentum", "b1", "b2"):
      fields.fraction(f"{section}.{field}", getattr(self, field))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOptions(WeightOptions):
  """A search: a warm-up of the weights alone, then both in turn.

  Attributes, besides those of `WeightOptions`:
    warmup_epochs: length of the warm-up, in epochs of the weights' split; or
      'auto', see `run.lengths`.
    epochs: length of the search that follows it, likewise, or 'auto'; 0 with a
      `derive.method` other than 'argmax': it needs no architecture parameters.
    warmup_lr: learning rate at the start of the warm-up; a cosine takes it to
      zero.
    lr: learning rate at the start of the search that follows, likewise.
    paths: paths of a weight step, each with its part of the batch, spread
      evenly over the candidates; 1 as published. See
      `nas.gates.draw_several`.
    path_per_device: whether each device draws paths of its own, instead of the
      same for all.
    arch: training of the architecture parameters.
    costs: costs by names of your own; empty to search for accuracy alone.
  """

  warmup_epochs: float | str = 40.0
  epochs: float | str = 120.0
  warmup_lr: float = 0.05
  lr: float = 0.025
  paths: int = 1
  path_per_device: bool = False
  arch: ArchOptions = dataclasses.field(default_factory=ArchOptions)
  costs: Mapping[str, CostOptions] = dataclasses.field(default_factory=dict)

  def __post_init__(self) -> None:
    self._check_weights("search")
    fields.positive("search.lr", self.lr)
    if self.paths < 1 or self.batch % self.parts:
      raise ValueError(
        f"search.paths = {self.paths!r}: expected a positive number whose "
        f"product with search.grad_accum = {self.grad_accum} divides "
        f"search.batch = {self.batch}"
      )
    fields.not_negative("search.warmup_lr", self.warmup_lr)
    for field in ("epochs", "warmup_epochs"):
      fields.length(f"search.{field}", getattr(self, field))
    for name, cost in self.costs.items():
      self._check_cost(name, cost)

  @property
  def parts(self) -> int:
    """The number of parts of a batch: those of each path."""
    return self.grad_accum * self.paths

  def _check_cost(self, name: str, cost: CostOptions) -> None:
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
class DeriveOptions:
  """From the end of a search to an architecture.

  Attributes:
    method: 'argmax', the most probable architecture within the targets, as
      published; 'additive', the best one by an additive model of the losses
      that paths have with the weights of the search, see `nas.additive`; or
      'evolution', the best path that evolution meets, see `nas.baselines`.
    paths: number of paths that the last two evaluate; in a small space
      evolution evaluates all that meet the targets, if there are fewer.
    images: number of held-out images that paths are evaluated on, at most.
    compare: number of different random paths near the targets (`random.near`)
      with which the result is compared, by their losses with the weights of the
      search, or as many as there are; 0 for none.
  """

  method: str = "argmax"
  paths: int = 400
  images: int = 500
  compare: int = 0

  def __post_init__(self) -> None:
    fields.one_of("derive.method", self.method, DERIVE)
    for field in ("paths", "images"):
      fields.positive(f"derive.{field}", getattr(self, field))
    fields.not_negative("derive.compare", self.compare)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions(WeightOptions):
  """The training of an architecture.

  Attributes, besides those of `WeightOptions`:
    enabled: whether a search goes on to train the architecture that it found.
    freeze: whether the classifier alone is trained, from `config.weights`. All
      other layers stay bit for bit: batch norm runs as in evaluation, paths
      are not dropped.
    inherit: whether the training starts from the weights of the search instead
      of from scratch.
    epochs: length of the training, in epochs of the training split.
    lr: highest learning rate; a cosine takes it to zero.
    lr_warmup_epochs: epochs at the start in which the learning rate rises
      linearly; none as published at batch 256, some for large batches.
    kernels_only: whether weight decay leaves out batch norm, as published, and
      biases, of which only the classifier has one.
    dropout: dropout rate before the classifier.
    drop_path: rate at which paths beside shortcuts, and branches of cells,
      are dropped at the end of training; it grows from 0 in proportion to the
      steps.
    ema_decay: decay rate of the moving average of the weights, which is what
      is evaluated; 0 evaluates the last weights.
  """

  enabled: bool = False
  freeze: bool = False
  inherit: bool = False
  epochs: float = 300.0
  lr: float = 0.05
  lr_warmup_epochs: float = 0.0
  kernels_only: bool = True
  dropout: float = 0.2
  drop_path: float = 0.0
  ema_decay: float = 0.0

  def __post_init__(self) -> None:
    self._check_weights("train")
    for field in ("epochs", "lr"):
      fields.positive(f"train.{field}", getattr(self, field))
    fields.not_negative("train.lr_warmup_epochs", self.lr_warmup_epochs)
    if self.lr_warmup_epochs >= self.epochs:
      raise ValueError(
        f"train.lr_warmup_epochs = {self.lr_warmup_epochs}: expected below "
        f"train.epochs = {self.epochs}"
      )
    for field in ("dropout", "drop_path", "ema_decay"):
      fields.fraction(f"train.{field}", getattr(self, field))


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
  """The evaluation of an architecture.

  Attributes:
    batch: images per step.
    recalibration_batches: number of batches of training images from which
      inherited weights get the batch-norm statistics of their own path.
  """

  batch: int = 500
  recalibration_batches: int = 100

  def __post_init__(self) -> None:
    for field in ("batch", "recalibration_batches"):
      fields.positive(f"evaluate.{field}", getattr(self, field))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomOptions:
  """Random networks, the baseline of a search.

  Attributes:
    count: number of networks, all different; more may be asked for later.
    near: least cost of a network, as a part of the target: the found network
      should not win by its size. Of several targets, as many ask for it, one
      after the other, as a network can meet.
  """

  count: int = 10
  near: float = 0.9

  def __post_init__(self) -> None:
    fields.positive("random.count", self.count)
    fields.fraction("random.near", self.near)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
  """How a run is watched and kept; may change from start to start.

  Attributes:
    log_every: steps from one line of metrics to the next.
    checkpoint_every: steps from one checkpoint to the next.
    keep: number of newest checkpoints that are kept.
    shard_state: whether each device keeps a part of weights and optimizer
      states, instead of all of them.
  """

  log_every: int = 100
  checkpoint_every: int = 1000
  keep: int = 3
  shard_state: bool = False

  def __post_init__(self) -> None:
    for field in ("log_every", "checkpoint_every", "keep"):
      fields.positive(f"run.{field}", getattr(self, field))
