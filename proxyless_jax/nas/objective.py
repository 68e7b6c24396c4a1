"""What a search of the architecture optimises: quality against costs.

By gradient, cross-entropy and expected costs E_i = E[cost_i]; by REINFORCE, the
accuracy and the costs C_i of a drawn network, with any number of costs at once:

    loss   = CE * prod_i factor_i(E_i)  + sum_i penalty_i(E_i)
    reward = accuracy * prod_i factor_i(C_i) - sum_i penalty_i(C_i)

    form            factor                       penalty
    Linear          1                            weight * (c / reference - 1)
    Log             scale * (log c / log reference) ** exponent          0
    Multiplicative  (target / c) ** exponent     0
    Absolute        1                            weight * |c / target - 1|
    AtMost          1                            m * (c / target - 1)
    Exactly         1                            m * (c / target - 1)

Linear and Log are the published forms of ProxylessNAS, Multiplicative is that
of MnasNet and of ProxylessNAS by REINFORCE, Absolute that of TuNAS (Bender et
al., CVPR 2020). AtMost and Exactly are Lagrangians: their multipliers m follow
the cost of the network that would be derived, since that is what the user gets,

    m <- m + rate * (c_derived / target - 1),

never below zero for AtMost. The ratio of logarithms depends on the unit of the
cost: the reference must be in the table's, and it and every cost above 1.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from proxyless_jax.hardware import CostTable
from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.training.metrics import Metrics, once

# A further term of what is minimised: f[] from the probabilities f[e, k], which
# are zero where no candidate exists.
Term = Callable[[jax.Array], jax.Array]
# f[] for each cost, in their order: a list, or one array f[m].
PerCost = Sequence[jax.Array] | jax.Array
# Within which part of its target a cost is exactly it.
TOLERANCE = 0.02


@dataclasses.dataclass(frozen=True)
class Form:
  """How a cost enters the objective; this base class adds nothing.

  Costs are f[...], multipliers f[].
  """

  def factor(self, cost: jax.Array) -> jax.Array:
    """What multiplies the cross-entropy, or the accuracy: f[...]."""
    return jnp.ones_like(cost)

  def penalty(self, cost: jax.Array, multiplier: jax.Array) -> jax.Array:
    """What is added to the loss, or subtracted from the reward: f[...]."""
    del multiplier
    return jnp.zeros_like(cost)

  def next_multiplier(
    self, multiplier: jax.Array, derived: jax.Array
  ) -> jax.Array:
    """The multiplier f[] after a step at which argmax costs `derived` f[]."""
    del derived
    return multiplier


@dataclasses.dataclass(frozen=True)
class Linear(Form):
  """weight * (c / reference - 1) is added."""

  weight: float
  reference: float

  def __post_init__(self) -> None:
    _check_above("reference", self.reference, 0.0)

  def penalty(self, cost: jax.Array, multiplier: jax.Array) -> jax.Array:
    del multiplier
    return self.weight * (cost - self.reference) / self.reference


@dataclasses.dataclass(frozen=True)
class Log(Form):
  """Times scale * (log c / log reference) ** exponent; released: 0.2, 0.3."""

  scale: float
  exponent: float
  reference: float

  def __post_init__(self) -> None:
    # At 1 the logarithm is zero; below it, c may be on its other side.
    _check_above("reference", self.reference, 1.0)
    # At 0 the cost is without effect; below it, dear is good.
    _check_above("exponent", self.exponent, 0.0)

  def factor(self, cost: jax.Array) -> jax.Array:
    ratio = jnp.log(cost) / jnp.log(self.reference)
    return self.scale * ratio**self.exponent


@dataclasses.dataclass(frozen=True)
class Multiplicative(Form):
  """Times (target / c) ** exponent."""

  target: float
  exponent: float

  def __post_init__(self) -> None:
    _check_above("target", self.target, 0.0)
    _check_above("exponent", self.exponent, 0.0)

  def factor(self, cost: jax.Array) -> jax.Array:
    return (self.target / cost) ** self.exponent


@dataclasses.dataclass(frozen=True)
class Absolute(Form):
  """weight * |c / target - 1| is subtracted, on both sides of the target."""

  target: float
  weight: float

  def __post_init__(self) -> None:
    _check_above("target", self.target, 0.0)
    _check_above("weight", self.weight, 0.0)

  def penalty(self, cost: jax.Array, multiplier: jax.Array) -> jax.Array:
    del multiplier
    return self.weight * jnp.abs(cost / self.target - 1.0)


@dataclasses.dataclass(frozen=True)
class Target(Form):
  """Lagrangian of a constraint on the cost of the derived network."""

  target: float
  rate: float

  def __post_init__(self) -> None:
    _check_above("target", self.target, 0.0)
    _check_above("rate", self.rate, 0.0)

  @property
  def low(self) -> float:
    """The least that the derived network may cost."""
    raise NotImplementedError

  @property
  def high(self) -> float:
    """The most that it may cost."""
    raise NotImplementedError

  def penalty(self, cost: jax.Array, multiplier: jax.Array) -> jax.Array:
    return multiplier * (cost / self.target - 1.0)

  def next_multiplier(
    self, multiplier: jax.Array, derived: jax.Array
  ) -> jax.Array:
    return multiplier + self.rate * (derived / self.target - 1.0)


class AtMost(Target):
  """The derived network costs at most the target."""

  @property
  def low(self) -> float:
    return -math.inf

  @property
  def high(self) -> float:
    return self.target

  def next_multiplier(
    self, multiplier: jax.Array, derived: jax.Array
  ) -> jax.Array:
    return jnp.maximum(0.0, super().next_multiplier(multiplier, derived))


class Exactly(Target):
  """The derived network costs the target, within `TOLERANCE` of it."""

  @property
  def low(self) -> float:
    return self.target * (1.0 - TOLERANCE)

  @property
  def high(self) -> float:
    return self.target * (1.0 + TOLERANCE)


class Cost(NamedTuple):
  """One cost of a search.

  Attributes:
    name: name in metrics.
    table: table of the space's costs; None for a black-box cost, a Python
      function of a network, which REINFORCE alone can take.
    form: form in which the cost enters the objective.
  """

  name: str
  table: CostTable | None
  form: Form

  def need_table(self) -> CostTable:
    """The table; an error for a black-box cost.

    Raises:
      ValueError: a black-box cost.
    """
    if self.table is None:
      raise ValueError(
        f"cost {self.name!r} has no table, and no gradient: expected a cost "
        "with a table, or a search by REINFORCE"
      )
    return self.table


def loss(
  costs: Sequence[Cost],
  cross_entropy: jax.Array,
  expected: PerCost,
  multipliers: jax.Array,
) -> jax.Array:
  """The loss of a step by gradient, f[].

  Args:
    costs: m costs, each with its form.
    cross_entropy: f[].
    expected: f[] for each cost, its expectation under the probabilities.
    multipliers: f[m], those of the targets; others are ignored.
  """
  for i, cost in enumerate(costs):
    cross_entropy = cross_entropy * cost.form.factor(expected[i])
  return cross_entropy + _penalties(costs, expected, multipliers)


def reward(
  costs: Sequence[Cost],
  accuracy: jax.Array,
  values: jax.Array,
  multipliers: jax.Array,
) -> jax.Array:
  """The rewards of n drawn paths, f[n].

  Args:
    costs: m costs, each with its form.
    accuracy: f[n], fractions.
    values: f[n, m], the cost of each path.
    multipliers: f[m], those of the targets; others are ignored.
  """
  for i, cost in enumerate(costs):
    accuracy = accuracy * cost.form.factor(values[:, i])
  return accuracy - _penalties(costs, values.T, multipliers)


def _penalties(
  costs: Sequence[Cost], values: PerCost, multipliers: jax.Array
) -> jax.Array | int:
  return sum(
    cost.form.penalty(values[i], multipliers[i]) for i, cost in enumerate(costs)
  )


def next_multipliers(
  costs: Sequence[Cost],
  multipliers: jax.Array,
  derived: PerCost,
) -> jax.Array:
  """The multipliers after a step, f[m].

  Args:
    costs: m costs, each with its form.
    multipliers: f[m], those before the step.
    derived: f[] for each cost, that of the network of the largest alpha.
  """
  new = [
    cost.form.next_multiplier(multipliers[i], derived[i])
    for i, cost in enumerate(costs)
  ]
  return jnp.stack(new) if new else multipliers


def derived_costs(
  costs: Sequence[Cost], valid: jax.Array, arch: jax.Array
) -> list[jax.Array]:
  """What the network of the largest alpha costs: f[] for each cost.

  Args:
    costs: costs of the objective, each with a table.
    valid: bool[e, k], the candidates that exist.
    arch: f[e, k], alpha.

  Raises:
    ValueError: a black-box cost.
  """
  path = gates_lib.most_probable(arch, valid)
  return [cost.need_table().of_path(path) for cost in costs]


def cost_metrics(
  costs: Sequence[Cost],
  expected: PerCost,
  derived: PerCost,
  multipliers: jax.Array,
) -> Metrics:
  """Metrics of each cost, by its name.

  Args:
    costs: costs of the objective.
    expected: f[] for each cost, its expectation under the probabilities.
    derived: f[] for each cost, that of the network of the largest alpha.
    multipliers: f[m].
  """
  metrics = {}
  for i, cost in enumerate(costs):
    metrics[f"expected_{cost.name}"] = once(expected[i])
    metrics[f"derived_{cost.name}"] = once(derived[i])
    metrics[f"multiplier_{cost.name}"] = once(multipliers[i])
  return metrics


def _check_above(field: str, value: float, bound: float) -> None:
  if not bound < value < math.inf:
    raise ValueError(f"{field} = {value}: expected a number above {bound:g}")
