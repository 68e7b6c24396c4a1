"""The method: gates, objective, and the steps of a search."""

from proxyless_jax.nas import (
  derive,
  gates,
  knapsack,
  objective,
  optimizers,
  reinforce,
  transforms,
)
