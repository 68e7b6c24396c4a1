"""The method: gates, objective, and the steps of a search."""

from proxyless_jax.nas import (
  arch_step,
  derive,
  gates,
  knapsack,
  objective,
  optimizers,
  reinforce,
  state,
  transforms,
  validate,
  weight_step,
)
