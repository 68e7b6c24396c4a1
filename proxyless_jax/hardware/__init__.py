"""WHAT it costs: tables [edge, candidate] of any cost."""

from proxyless_jax.hardware.cost import CostTable, make_table
from proxyless_jax.hardware.files import load_table
from proxyless_jax.hardware.kinds import cost_table
from proxyless_jax.hardware.memory import alive, beside
from proxyless_jax.hardware.units import (
  other_scales,
  parse_quantity,
  split_quantity,
)
