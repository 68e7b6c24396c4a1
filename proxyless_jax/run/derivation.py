"""From the end of a search to the network that it found."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from proxyless_jax.hardware import split_quantity
from proxyless_jax.nas import gates, objective
from proxyless_jax.nas.derive import ROUNDING, derive
from proxyless_jax.run.black_box import Calls
from proxyless_jax.run.config.sections import CostOptions
from proxyless_jax.run.costs import constraints, missed_targets
from proxyless_jax.space import Network


def derive_path(
  values: np.ndarray, space: Network, costs: Sequence[objective.Cost]
) -> tuple[np.ndarray, dict]:
  """The path of the largest sum of values that meets all targets.

  Targets of black-box costs steer the search alone.

  Args:
    values: f[e, k], the logits at the end of a search, or the values of the
      additive model.
    space: the search space.
    costs: the costs with their tables.

  Returns:
    i64[e], and an entry of the result: the number of edges where the path
    differs from the largest value.
  """
  valid = gates.valid_candidates(space)
  index = derive(values, valid, constraints(costs))
  off = int(np.sum(index != derive(values, valid)))
  return index, {"edges_off_argmax": off}


def describe_network(
  options: Mapping[str, CostOptions],
  space: Network,
  costs: Sequence[objective.Cost],
  index: np.ndarray,
  calls: Calls,
) -> tuple[Network, dict]:
  """The architecture that a search found, with a warning for missed targets.

  Args:
    options: costs of the config, by name.
    space: the search space.
    costs: the same costs, with their tables.
    index: i64[e], the candidate of each edge.
    calls: the black-box costs.

  Returns:
    The network, and entries of the result: its costs, and whether they meet
    their targets.
  """
  network = space.choose(index.tolist())
  missed = missed_targets(costs, space, index)
  if missed:
    warnings.warn(missed, stacklevel=2)
  more: dict[str, Any] = {}
  for cost in costs:
    more |= _found(cost, options[cost.name], network, calls)
  return network, more


def _found(cost, options: CostOptions, network: Network, calls: Calls) -> dict:
  """The entries of a cost in the result."""
  name, found = cost.name, dict[str, Any]()
  if cost.table is None:
    _, unit = split_quantity(options.reference)
    found |= {f"cost_{name}": calls.of(name, network), f"unit_{name}": unit}
  else:
    found |= {
      f"cost_{name}": cost.table.exact(network),
      f"unit_{name}": cost.table.unit,
      f"source_{name}": cost.table.source,
      f"largest_{name}": cost.table.max_cost,
    }
  if isinstance(cost.form, objective.Target):
    low, high, value = cost.form.low, cost.form.high, found[f"cost_{name}"]
    found[f"target_{name}"] = cost.form.target
    found[f"met_{name}"] = (
      low * (1 - ROUNDING) <= value <= high * (1 + ROUNDING)
    )
  return found
