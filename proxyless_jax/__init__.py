"""ProxylessNAS in JAX: search a network on the target task and hardware."""

from proxyless_jax.hardware import CostTable, cost_table
from proxyless_jax.nn import build, inherit, init, make
from proxyless_jax.run import evaluate, search, train
from proxyless_jax.space import (
  Edge,
  Network,
  Op,
  load_network,
  macs,
  mobile_space,
  parameters,
)
