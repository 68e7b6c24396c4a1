"""The supernet of NAS-Bench-Macro's space, trained and searched on one device.

The images lie in the device's memory, and many steps run in one compiled loop:
on a GPU such a small network's step is shorter than what a host needs to start
it. The steps are those of the package.

    warm_up   weights alone; no architecture, no target
    search    weights and architecture in turn
    score     accuracy of any paths on the held-out images
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from experiments import cifar10
from experiments.macro import benchmark
from experiments.macro.dense_steps import dense_step
from experiments.macro.sharing import bank_filters, keep_shared, share
from proxyless_jax.hardware import cost_table
from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas import objective, reinforce
from proxyless_jax.nas.arch_step import arch_step
from proxyless_jax.nas.evaluate import evaluate_path
from proxyless_jax.nas.optimizers import arch_optimizer
from proxyless_jax.nas.state import SearchState, search_state
from proxyless_jax.nas.weight_step import weight_step
from proxyless_jax.nn import build, init
from proxyless_jax.space import Chain
from proxyless_jax.training.metrics import (
  classification,
  cross_entropy,
  merge,
)
from proxyless_jax.training.optimizers import train_schedule, weight_optimizer

ALGORITHMS = ("full", "two", "reinforce")
MACS = 1e6  # The table is in millions.
AT_ONCE = 50  # Paths that a compiled loop scores.


@dataclasses.dataclass(frozen=True)
class Settings:
  """Of a search.

  Attributes:
    batch: images of a path in a weight step.
    paths: paths of a weight step, see `weight_step`.
    arch_batch: images of an architecture step.
    warmup_steps, steps: weight steps before and during the search.
    lr, search_lr: learning rates of the weights at the start of the warm-up and
      of the search; cosines take them to zero.
    ramp_steps: steps of a linear ramp at the start of the warm-up.
    momentum, decay: momentum and weight decay of SGD.
    label_smoothing: share of the labels that is spread over all classes.
    arch_lr: learning rate of Adam, for the architecture.
    every: weight steps from one architecture step to the next.
    samples: paths of an update by REINFORCE.
    rate: learning rate of the target's multiplier.
    temperature: by which alpha is divided before a softmax; with any but 1 the
      paths of a step are independent, as with `fair=False`.
    fair: whether the paths of a step are spread evenly, or independent.
    share: whether candidates share filters (`macro.sharing`).
    dense: part of the warm-up at whose start all steps are of all candidates
      (`macro.dense_steps`), and at whose end none is. Such a step has the
      images of one path, so that it computes what the others do.
    dtype: type of activations.
  """

  batch: int = 256
  paths: int = 3
  arch_batch: int = 256
  warmup_steps: int = 2640
  steps: int = 880
  lr: float = 0.1
  ramp_steps: int = 100
  search_lr: float = 0.02
  momentum: float = 0.9
  weight_decay: float = 5e-4
  label_smoothing: float = 0.0
  arch_lr: float = 0.02
  every: int = 2
  samples: int = 8
  rate: float = 0.05
  temperature: float = 1.0
  fair: bool = True
  share: bool = False
  dense: float = 0.0
  dtype: str = "float32"

  @property
  def images_warm_up(self) -> int:
    """Images of a warm-up, times paths."""
    return self.warmup_steps * self.batch * self.paths

  def images_seen(self, algorithm: str) -> dict[str, int]:
    """Images times paths, by the kind of step.

    A path that an architecture step of `full` or `two` asks for its gate's
    gradient alone counts a third: it runs forward only.
    """
    rounds = self.steps // self.every
    forward = {"full": 2.0, "two": 1.0, "reinforce": float(self.samples)}
    drawn = 0.0 if algorithm == "reinforce" else 1.0
    paths = drawn + forward[algorithm] / 3.0
    return {
      "warm_up": self.images_warm_up,
      "weights": rounds * self.every * self.batch * self.paths,
      "architecture": round(rounds * self.arch_batch * paths),
    }


@dataclasses.dataclass(frozen=True)
class TracedTarget(objective.Form):
  """`objective.AtMost` of a target that is an array: compiled once for all."""

  target: jax.Array
  rate: float

  def penalty(self, cost, multiplier):
    return multiplier * (cost / self.target - 1.0)

  def next_multiplier(self, multiplier, derived):
    moved = multiplier + self.rate * (derived / self.target - 1.0)
    return jnp.maximum(0.0, moved)


class Supernet:
  """Compiled loops over the steps of one setting.

  Attributes:
    valid: bool[8, 3].
    table: MACs in millions of each candidate.
  """

  def __init__(
    self,
    settings: Settings,
    weights: cifar10.Images,
    held_out: cifar10.Images,
    space: Chain | None = None,
  ):
    """`weights` and `held_out`: the parts of the training images.

    `space`: None for NAS-Bench-Macro's.
    """
    space = space or benchmark.space()
    self._settings = settings
    self.module = build(space, dtype=jnp.dtype(settings.dtype))
    self.valid = gates_lib.valid_candidates(space)
    table = cost_table("macs", space)
    self.table = dataclasses.replace(
      table, costs=table.costs / MACS, fixed=table.fixed / MACS, unit="M MACs"
    )
    self._weights, self._held_out = jax.device_put((weights, held_out))
    sgd = functools.partial(
      weight_optimizer,
      momentum=settings.momentum,
      nesterov=True,
      weight_decay=settings.weight_decay,
      kernels_only=False,
    )
    self._draw = draw_of(settings)
    self._filters = bank_filters(space) if settings.share else {}
    self._warm_tx = sgd(
      train_schedule(settings.lr, settings.warmup_steps, settings.ramp_steps)
    )
    self._tx = sgd(
      optax.cosine_decay_schedule(settings.search_lr, settings.steps)
    )
    self._arch_tx = arch_optimizer(
      settings.arch_lr, b1=0.0, b2=0.999, weight_decay=0.0
    )
    self._warm = jax.jit(self._warm_up, static_argnames="count")
    self._search = jax.jit(
      self._search_loop, static_argnames=("count", "algorithm")
    )
    self._score = jax.jit(self._score_paths, static_argnames="running")

  def init(self, seed: int) -> SearchState:
    """The state before the first step of a warm-up."""
    init_key, key = jax.random.split(jax.random.key(seed))
    variables = init(self.module, init_key)
    variables["params"] = share(variables["params"], self._filters)
    return self._state(key, variables, self._warm_tx)

  def begin_search(self, variables: dict, seed: int) -> SearchState:
    """The state before the first step of a search.

    Args:
      variables: {'params', 'batch_stats'} of a warm-up.
      seed: seed of everything random.
    """
    return self._state(jax.random.key(seed), variables, self._tx)

  def _state(self, key, variables, tx) -> SearchState:
    return search_state(
      key, variables, self.valid, tx, self._arch_tx, 1e-3, costs=1
    )

  def warm_up(self, state: SearchState, count: int):
    """`count` steps of the weights alone: (state, metrics)."""
    return self._warm(state, self._weights, count=count)

  def search(self, state, target: float, count: int, algorithm: str):
    """`count` rounds: `every` weight steps, then one of the architecture.

    Args:
      state: result of `begin_search`.
      target: most millions of MACs.
      count: rounds.
      algorithm: one of `ALGORITHMS`.

    Returns:
      The state and metrics.
    """
    data = self._weights, self._held_out
    return self._search(
      state, *data, jnp.float32(target), count=count, algorithm=algorithm
    )

  def score(
    self,
    variables,
    paths: np.ndarray,
    images: int,
    batch: int,
    running: bool = False,
  ) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy f64[n] in percent and loss f64[n] of paths i32[n, 8].

    With inherited weights.

    Args:
      variables: {'params', 'batch_stats'}.
      paths: any.
      images: number of held-out images, the same for all paths.
      batch: at once.
      running: whether batch norm uses the supernet's averages instead of the
        statistics of the batch.
    """
    parts = images // batch
    held_out = jax.tree.map(
      lambda a: a[: parts * batch].reshape(parts, batch, *a.shape[1:]),
      self._held_out,
    )
    found = []
    for start in range(0, len(paths), AT_ONCE):
      some = paths[start : start + AT_ONCE]
      # As many as are compiled for.
      filled = some[np.arange(AT_ONCE) % len(some)]
      scores = self._score(
        variables, held_out, jnp.asarray(filled), running=running
      )
      found.append(np.array(scores, np.float64)[:, : len(some)])
    top1, loss = np.concatenate(found, axis=1)
    return 100.0 * top1, loss

  def evaluate(self, variables, path, batch) -> tuple[jax.Array, jax.Array]:
    """Accuracy f[] from 0 to 1 and loss f[] of a path i32[8] on a batch."""
    metrics = evaluate_path(
      path,
      variables,
      batch,
      jax.random.key(0),
      module=self.module,
      valid=self.valid,
      label_smoothing=0.0,
      grad_accum=1,
    )
    top1, loss = metrics["top1"], metrics["loss"]
    return top1.total / top1.count, loss.total / loss.count

  def held_out_batches(self, key: jax.Array, count: int, first: int) -> dict:
    """Batches of the architecture's steps from number `first` on, stacked."""
    key = jax.random.fold_in(key, 102)
    of_step = functools.partial(self._batch, self._held_out, key)
    return jax.lax.map(of_step, first + jnp.arange(count))

  def _batch(self, images, key, step, paths=None):
    """A batch for paths in training; None for the held-out images."""
    rows_key, image_key = jax.random.split(key)
    count, settings = len(images.label), self._settings
    batch = paths * settings.batch if paths else settings.arch_batch
    rows = cifar10.epoch_rows(rows_key, count, batch, step)
    image_key = jax.random.fold_in(image_key, step)
    return cifar10.batch_of(images, rows, image_key if paths else None)

  def _warm_up(self, state, images, count: int):
    step = self._weight_step(self._warm_tx, images)
    if self._settings.dense:
      step = self._sometimes_dense(step, images)
    return _loop(step, state, count)

  def _sometimes_dense(self, step, images):
    """`step`, or one of all candidates, ever less often."""
    settings = self._settings
    until = settings.dense * settings.warmup_steps

    def dense(state):
      key = jax.random.fold_in(state.key, 101)
      batch = self._batch(images, key, state.step, settings.paths)
      return dense_step(
        state,
        jax.tree.map(lambda a: a[: settings.batch], batch),
        space=self.module.network,
        tx=self._warm_tx,
        label_smoothing=settings.label_smoothing,
      )

    def either(state, _):
      chance = jax.random.uniform(state.step_key(104))
      return lax.cond(
        chance < 1.0 - state.step / until,
        dense,
        lambda state: step(state, None),
        state,
      )

    return either

  def _weight_step(self, tx, images):
    """A step of the weights: (state, _) -> (state, metrics)."""
    settings = self._settings

    def step(state, _):
      key = jax.random.fold_in(state.key, 101)
      batch = self._batch(images, key, state.step, settings.paths)
      new, metrics = weight_step(
        state,
        batch,
        module=self.module,
        valid=self.valid,
        tx=tx,
        label_smoothing=settings.label_smoothing,
        grad_accum=1,
        draw=self._draw,
        paths=settings.paths,
      )
      params = keep_shared(state.params, new.params, self._filters)
      return new.replace(params=params), metrics

    return step

  def _arch_step(self, target, algorithm: str):
    """The step of the architecture: (state, batch) -> (state, metrics)."""
    settings = self._settings
    form = TracedTarget(target, settings.rate)
    common = dict(
      module=self.module,
      valid=self.valid,
      tx=self._arch_tx,
      costs=(objective.Cost("macs", self.table, form),),
      label_smoothing=settings.label_smoothing,
      grad_accum=1,
    )
    if algorithm != "reinforce":
      step = functools.partial(arch_step, draw=self._draw)
      return functools.partial(step, mode=algorithm, **common)
    return functools.partial(
      reinforce.reinforce_step,
      samples=settings.samples,
      baseline_decay=0.9,
      entropy_weight=0.0,
      **common,
    )

  def _search_loop(self, state, weights, held_out, target, count, algorithm):
    settings = self._settings
    arch_step = self._arch_step(target, algorithm)
    step = self._weight_step(self._tx, weights)

    def round_(state, _):
      state, metrics = _loop(step, state, settings.every)
      key = jax.random.fold_in(state.key, 102)
      number = state.step // settings.every
      batch = self._batch(held_out, key, number)
      state, of_arch = arch_step(state, batch)
      return state, merge(metrics, of_arch)

    return _loop(round_, state, count)

  def _by_averages(self, variables, path, batch):
    """As `evaluate`, but batch norm uses the supernet's averages."""
    logits = self.module.apply(
      variables,
      batch["image"],
      train=False,
      gates=gates_lib.path(path, self.valid),
    )
    loss = cross_entropy(logits, batch, 0.0)
    metrics = classification(logits, batch, loss)
    top1 = metrics["top1"]
    return top1.total / top1.count, loss

  def _score_paths(self, variables, held_out, paths, running):
    evaluate = self._by_averages if running else self.evaluate

    def of_path(_, path):
      def of_part(_, part):
        batch = cifar10.batch_of(part, jnp.arange(len(part.label)))
        return None, evaluate(variables, path, batch)

      parts = lax.scan(of_part, None, held_out)[1]
      return None, jax.tree.map(jnp.mean, parts)

    return lax.scan(of_path, None, paths)[1]


def draw_of(settings: Settings) -> gates_lib.Draw:
  """`gates.draw`, or at another temperature, or independent of other paths."""
  if settings.temperature == 1.0 and settings.fair:
    return gates_lib.draw

  def draw(key, arch, valid, mode):
    return gates_lib.draw(key, arch / settings.temperature, valid, mode)

  return draw


def _loop(step, state, count: int):
  """The state after `count` steps, and the sums of their metrics."""
  state, metrics = lax.scan(step, state, None, length=count)
  return state, jax.tree.map(jnp.sum, metrics)


def variables_of(state: SearchState) -> dict:
  """The weights and statistics in a state."""
  return {"params": state.params, "batch_stats": state.batch_stats}
