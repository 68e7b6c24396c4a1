"""WHAT it costs: tables [edge, candidate] of any cost."""

from proxyless_jax.hardware.cost import CostTable, cost_table, parse_quantity
