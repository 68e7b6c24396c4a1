"""What an architecture step by gradient changes, once it has the gradient."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas import objective as objective_lib
from proxyless_jax.nas.objective import cost_metrics
from proxyless_jax.nas.state import SearchState
from proxyless_jax.training.metrics import Metrics, once


def move_arch(
  state: SearchState,
  grads: jax.Array,
  involved: jax.Array,
  *,
  valid: jax.Array,
  tx: optax.GradientTransformationExtraArgs,
  costs: Sequence[objective_lib.Cost],
) -> tuple[SearchState, Metrics]:
  """Moves the architecture, then the multipliers by where argmax now is.

  Args:
    state: of the search.
    grads: f[e, k], of the objective in alpha.
    involved: bool[e, k], the candidates that took part.
    valid: bool[e, k], which candidates exist.
    tx: over the architecture, an `optimizers.arch_optimizer`.
    costs: of the objective, each with a table.
  """
  updates, opt_state = tx.update(
    grads, state.arch_opt_state, state.arch, drawn=involved, involved=involved
  )
  arch = optax.apply_updates(state.arch, updates)
  path = gates_lib.most_probable(arch, valid)
  derived = [cost.table.of_path(path) for cost in costs]
  multipliers = objective_lib.next_multipliers(
    costs, state.multipliers, derived
  )
  probs = gates_lib.probabilities(state.arch, valid)
  expected = [cost.table.expected(probs) for cost in costs]
  metrics = cost_metrics(costs, expected, derived, multipliers)
  metrics["entropy"] = once(jnp.mean(gates_lib.entropy(arch, valid)))
  state = state.replace(
    arch=arch, arch_opt_state=opt_state, multipliers=multipliers
  )
  return state, metrics
