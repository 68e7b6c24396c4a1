"""Costs of architectures as tables [edge, candidate], and what they add up to.

    exact(network)  = fixed + sum_e table[e, choice_e]
    expected(probs) = fixed + sum_e sum_j probs[e, j] * table[e, j]

(ProxylessNAS, equation 2.) The expectation is differentiable in the
architecture parameters. Tables of counts come from shapes alone: no network
is run.
"""

from __future__ import annotations

import dataclasses
import math
import re

import jax.numpy as jnp
import numpy as np

from proxyless_jax.space import Network

PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}
COUNTS = {
  "macs": ("MACs", lambda op, edge: op.macs(edge)),
  "parameters": ("parameters", lambda op, edge: op.parameters(edge)),
}


@dataclasses.dataclass(frozen=True, eq=False)
class CostTable:
  """What each candidate of each searched edge of a space costs.

  Attributes:
    costs: f64[e, k]; zero where no candidate exists.
    fixed: cost of everything that is not searched.
    unit: such as 'MACs'.
    source: where the figures come from.
    edges: names of the searched edges, in order.
    ops: names of each edge's candidates, in order.
  """

  costs: np.ndarray
  fixed: float
  unit: str
  source: str
  edges: tuple[str, ...]
  ops: tuple[tuple[str, ...], ...]

  def exact(self, network: Network) -> float:
    """Cost of an architecture of the table's space, in `unit`.

    Raises:
      ValueError: the network has edges or operations that the table lacks, or
        lacks some of the table's; all are listed.
    """
    rows = {name: i for i, name in enumerate(self.edges)}
    chosen = {edge.name: edge.op.name for edge in network.edges}
    wrong = sorted(rows.keys() ^ chosen.keys())
    wrong += [
      f"{edge}/{op}"
      for edge, op in chosen.items()
      if edge in rows and op not in self.ops[rows[edge]]
    ]
    if wrong:
      raise ValueError(
        f"the table ({self.source}) and the network differ in {wrong}: use "
        "the table of the space from which the network was chosen"
      )
    return self.fixed + sum(
      float(self.costs[rows[edge], self.ops[rows[edge]].index(op)])
      for edge, op in chosen.items()
    )

  def expected(self, probs):
    """E[cost] in `unit`: f[e, k] -> f[]. Differentiable."""
    return self.fixed + jnp.sum(probs * jnp.asarray(self.costs, probs.dtype))

  def of_path(self, index):
    """Cost in `unit` of the path i32[e]: f[]. Traceable."""
    costs = jnp.asarray(self.costs, jnp.float32)
    picked = jnp.take_along_axis(costs, index[:, None], axis=1)
    return self.fixed + jnp.sum(picked)

  @property
  def mask(self) -> np.ndarray:
    """bool[e, k]: which candidates exist."""
    counts = np.array([len(ops) for ops in self.ops])
    return np.arange(self.costs.shape[1]) < counts[:, None]

  @property
  def cheapest(self) -> float:
    """Cost of the cheapest architecture."""
    return self.fixed + float(
      np.where(self.mask, self.costs, np.inf).min(1, initial=np.inf).sum()
    )

  @property
  def dearest(self) -> float:
    """Cost of the dearest architecture."""
    return self.fixed + float(
      np.where(self.mask, self.costs, -np.inf).max(1, initial=-np.inf).sum()
    )


def cost_table(kind: str, space: Network) -> CostTable:
  """The table of a space.

  Args:
    kind: 'macs' or 'parameters'.
    space: any network.

  Raises:
    ValueError: unknown kind.
  """
  if kind not in COUNTS:
    raise ValueError(f"cost kind {kind!r}: expected one of {sorted(COUNTS)}")
  unit, count = COUNTS[kind]
  width = max((len(edge.ops) for edge in space.edges), default=0)
  costs = np.zeros((len(space.edges), width))
  for i, edge in enumerate(space.edges):
    costs[i, : len(edge.ops)] = [count(op, edge) for op in edge.ops]
  searched = {edge.name for edge in space.edges}
  fixed = sum(
    count(edge.op, edge) for edge in space.layers if edge.name not in searched
  )
  edges = tuple(edge.name for edge in space.edges)
  ops = tuple(tuple(op.name for op in edge.ops) for edge in space.edges)
  return CostTable(costs, float(fixed), unit, "counted", edges, ops)


def parse_quantity(text: str, unit: str) -> float:
  """A cost such as '40 M MACs', '40M' or '3.2e6', in `unit`.

  Raises:
    ValueError: not a positive number, or of another unit.
  """
  number = r"(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)"
  pattern = rf"\s*{number}\s*([kKMGB]?)\s*(?i:{re.escape(unit)})?\s*"
  if match := re.fullmatch(pattern, str(text)):
    value = float(match[1]) * PREFIXES[match[2]]
    if 0.0 < value < math.inf:
      return value
  raise ValueError(
    f"target {text!r}: expected a positive number of {unit}, such as "
    f"'40 M {unit}'"
  )
