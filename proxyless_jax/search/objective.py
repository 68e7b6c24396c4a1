"""What an architecture step minimises: cross-entropy and expected cost.

The published forms of ProxylessNAS, and one that reaches a target:

    LinearCost   CE + weight * (E - reference) / reference
    LogCost      scale * CE * (log E / log reference) ** exponent
    TargetCost   CE + multiplier * (E / target - 1)

with E = E[cost] under the gates' probabilities. The ratio of logarithms depends
on the unit of the cost: the reference must be in the table's, and it and every
cost above 1.
"""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class NoCost:
  """Cross-entropy alone."""

  def loss(self, cross_entropy, expected, multiplier):
    """The objective f[], from cross-entropy f[] and expected cost f[]."""
    del expected, multiplier
    return cross_entropy

  def next_multiplier(self, multiplier, derived):
    """The multiplier f[] after a step at which argmax costs `derived` f[]."""
    del derived
    return multiplier


@dataclasses.dataclass(frozen=True)
class LinearCost(NoCost):
  """CE + weight * (E - reference) / reference."""

  weight: float
  reference: float

  def __post_init__(self):
    _check_above("reference", self.reference, 0.0)

  def loss(self, cross_entropy, expected, multiplier):
    del multiplier
    relative = (expected - self.reference) / self.reference
    return cross_entropy + self.weight * relative


@dataclasses.dataclass(frozen=True)
class LogCost(NoCost):
  """scale * CE * (log E / log reference) ** exponent; released: 0.2, 0.3."""

  scale: float
  exponent: float
  reference: float

  def __post_init__(self):
    # At 1 the logarithm is zero; below it, E may be on its other side.
    _check_above("reference", self.reference, 1.0)

  def loss(self, cross_entropy, expected, multiplier):
    del multiplier
    ratio = jnp.log(expected) / jnp.log(self.reference)
    return self.scale * cross_entropy * ratio**self.exponent


@dataclasses.dataclass(frozen=True)
class TargetCost(NoCost):
  """Lagrangian of 'the derived network costs at most `target`'.

  The multiplier rises while the most probable architecture costs more than
  the target, and falls to zero while it costs less. The constraint is on the
  architecture that argmax would derive, since that is what the user gets; the
  gradient is that of the expectation, which is differentiable.
  """

  target: float
  rate: float

  def __post_init__(self):
    _check_above("target", self.target, 0.0)
    _check_above("rate", self.rate, 0.0)

  def loss(self, cross_entropy, expected, multiplier):
    return cross_entropy + multiplier * (expected / self.target - 1.0)

  def next_multiplier(self, multiplier, derived):
    excess = derived / self.target - 1.0
    return jnp.maximum(0.0, multiplier + self.rate * excess)


def _check_above(field: str, value: float, bound: float) -> None:
  if not bound < value < math.inf:
    raise ValueError(f"{field} = {value}: expected a number above {bound:g}")
