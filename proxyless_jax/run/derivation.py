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


def derive_network(
  options: Mapping[str, CostOptions],
  space: Network,
  costs: Sequence[objective.Cost],
  arch: np.ndarray,
  calls: Calls,
) -> tuple[Network, dict]:
  """The architecture that a search found.

  It has the candidate of the largest alpha on every edge; where that misses a
  target, it is the most probable architecture that meets all of them. Targets
  of black-box costs steer the search alone.

  Args:
    options: costs of the config, by name.
    space: the search space.
    costs: the same costs, with their tables.
    arch: f32[e, k], the logits at the end of the search.
    calls: the black-box costs.

  Returns:
    The network, and entries of the result: its costs, whether they meet their
    targets, and the number of edges where it differs from the largest alpha.
  """
  valid, limits = gates.valid_candidates(space), constraints(costs)
  index = derive(arch, valid, limits)
  network = space.choose(index.tolist())
  missed = missed_targets(costs, space, index)
  if missed:
    warnings.warn(missed, stacklevel=2)
  more: dict[str, Any] = {}
  for cost in costs:
    more |= _found(cost, options[cost.name], network, calls)
  more["edges_off_argmax"] = int(np.sum(index != derive(arch, valid)))
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
