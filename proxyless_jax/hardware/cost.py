"""Costs of architectures: tables [edge, candidate], and their totals.

Most costs add up; the peak of a memory is the largest of its parts:

    exact(network)  = fixed + sum_e table[e, choice_e]
    expected(probs) = fixed + sum_e sum_j probs[e, j] * table[e, j]

    exact(network)  = max(fixed, max_e table[e, choice_e])
    expected(probs) = sum_i v_i * (F(v_i) - F(v_(i-1))),
      F(v) = prod_e sum_j probs[e, j] * [table[e, j] <= v]

with v_i the distinct values of the table in order: edges are drawn
independently, so the distribution function of the largest cost is the product
of theirs. Both expectations are exact, and differentiable in the probabilities
(ProxylessNAS, equation 2, is the first).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from proxyless_jax.space import Edge, Network, Op
from proxyless_jax.space.checks import check_path
from proxyless_jax.space.networks.network import check_network

VERSION = 1
COMBINATIONS = ("sum", "max")


@dataclasses.dataclass(frozen=True, eq=False)
class CostTable:
  """The costs of a space: of each candidate of each searched edge.

  Attributes:
    costs: f64[e, k]; zero where no candidate exists.
    fixed: cost of everything that is not searched.
    unit: unit of all costs, such as 'MACs'.
    source: origin of the figures, such as a device.
    edges: names of the searched edges, in order.
    ops: names of each edge's candidates, in order.
    layers: shapes of all layers of the space, see `describe`.
    combine: 'sum' or 'max' of the parts.
    details: facts of a measurement, such as the device, as JSON can store them.
  """

  costs: np.ndarray
  fixed: float
  unit: str
  source: str
  edges: tuple[str, ...]
  ops: tuple[tuple[str, ...], ...]
  layers: tuple[str, ...]
  combine: str = "sum"
  details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self) -> None:
    if self.combine not in COMBINATIONS:
      raise ValueError(
        f"combine = {self.combine!r}: expected one of {COMBINATIONS}"
      )
    if getattr(self.costs, "ndim", 0) != 2:
      raise ValueError(
        f"costs of type {type(self.costs).__name__}: expected an array f64[e, "
        "k], [edge, candidate]"
      )
    wrong = self.valid & ~np.isfinite(self.costs)
    if wrong.any() or not np.isfinite(self.fixed):
      cells = [
        f"{self.edges[e]}/{self.ops[e][j]}" for e, j in zip(*wrong.nonzero())
      ]
      raise ValueError(
        f"costs of {cells or 'the fixed part'} in the table ({self.source}): "
        "expected finite numbers"
      )

  def exact(self, network: Network) -> float:
    """Cost of an architecture of the table's space, in `unit`.

    Raises:
      ValueError: a network of another space; all differences are listed.
    """
    check_network("network", network)
    chosen = [edge.op.name for edge in network.edges]
    check_space(self, network, [[op] for op in chosen])
    picked = [
      float(row[ops.index(op)])
      for row, ops, op in zip(self.costs, self.ops, chosen)
    ]
    if self.combine == "max":
      return max([self.fixed, *picked])
    return self.fixed + sum(picked)

  def expected(self, probs: jax.Array) -> jax.Array:
    """The expected cost, f[], in `unit`. Differentiable.

    Args:
      probs: f[e, k], probability of each candidate.
    """
    if np.shape(probs) != self.costs.shape:
      raise ValueError(
        f"probs have shape {np.shape(probs)}: expected {self.costs.shape}, "
        "[edge, candidate]"
      )
    if self.combine == "max":
      return self._expected_max(probs)
    return self.fixed + jnp.sum(probs * jnp.asarray(self.costs, probs.dtype))

  def _expected_max(self, probs: jax.Array) -> jax.Array:
    # Below the cheapest architecture the distribution is zero, whatever the
    # probabilities, and from the most expensive on it is one.
    values = np.unique(np.append(self.costs[self.valid], self.fixed))
    values = values[(values >= self.min_cost) & (values <= self.max_cost)]
    below = self.valid & (self.costs <= values[:-1, None, None])
    reached = jnp.sum(jnp.where(below, probs, 0.0), axis=2).prod(axis=1)
    return float(values[-1]) - jnp.sum(
      reached * jnp.asarray(np.diff(values), probs.dtype)
    )

  def of_path(self, index: jax.Array) -> jax.Array:
    """The costs of paths, f[...], in `unit`. Traceable.

    Args:
      index: i32[..., e], index of the candidate on each edge.
    """
    # Else one index would be broadcast to all edges.
    if np.shape(index)[-1:] != (len(self.costs),):
      raise ValueError(
        f"index has shape {np.shape(index)}: expected [..., "
        f"{len(self.costs)}], a candidate for each edge"
      )
    costs = jnp.asarray(self.costs, jnp.float32)
    picked = costs[np.arange(len(costs)), index]
    if self.combine == "max":
      return jnp.max(picked, axis=-1, initial=self.fixed)
    return self.fixed + jnp.sum(picked, axis=-1)

  @property
  def digest(self) -> str:
    """A hash of the costs: tables of other sources may share it."""
    fields = [self.costs.tolist(), self.fixed, self.unit, self.combine]
    fields += [self.edges, self.ops, self.layers]
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()

  @property
  def valid(self) -> np.ndarray:
    """bool[e, k]: whether each candidate exists."""
    counts = np.array([len(ops) for ops in self.ops], int)
    return np.arange(self.costs.shape[1]) < counts[:, None]

  @property
  def min_cost(self) -> float:
    """Cost of the cheapest architecture."""
    return self._total(
      np.where(self.valid, self.costs, np.inf).min(1, initial=np.inf)
    )

  @property
  def max_cost(self) -> float:
    """Cost of the most expensive architecture."""
    return self._total(
      np.where(self.valid, self.costs, -np.inf).max(1, initial=-np.inf)
    )

  def _total(self, parts: np.ndarray) -> float:
    if self.combine == "max":
      return float(np.max(parts, initial=self.fixed))
    return self.fixed + float(parts.sum())

  def to_json(self, path: str | os.PathLike | None = None) -> str:
    """The table as JSON text, also written to `path` where given.

    `load_table` reads it.
    """
    costs = {
      edge: dict(zip(ops, row.tolist()))
      for edge, ops, row in zip(self.edges, self.ops, self.costs)
    }
    fields = {
      "version": VERSION,
      **{name: getattr(self, name) for name in ("unit", "source", "combine")},
      "details": dict(self.details),
      "layers": list(self.layers),
      "fixed": self.fixed,
      "costs": costs,
    }
    text = json.dumps(fields, indent=1)
    if path is not None:
      check_path("path", path)
      with open(os.path.expanduser(path), "w", encoding="utf-8") as file:
        file.write(text + "\n")
    return text


def make_table(
  space: Network,
  cost: Callable[[Op, Edge], float],
  *,
  fixed: float,
  unit: str,
  source: str,
  combine: str = "sum",
  details: Mapping[str, Any] | None = None,
) -> CostTable:
  """The table of a space from a function of operation and edge.

  Args:
    space: space of the table; any network.
    cost: function of (operation, searched edge) that returns the cost.
    fixed, unit, source, combine, details: see `CostTable`.
  """
  check_network("space", space)
  width = max((len(edge.ops) for edge in space.edges), default=0)
  costs = np.zeros((len(space.edges), width))
  for row, edge in zip(costs, space.edges):
    row[: len(edge.ops)] = [cost(op, edge) for op in edge.ops]
  return CostTable(
    costs=costs,
    fixed=float(fixed),
    unit=unit,
    source=source,
    edges=tuple(edge.name for edge in space.edges),
    ops=tuple(tuple(op.name for op in edge.ops) for edge in space.edges),
    layers=describe(space),
    combine=combine,
    details=details or {},
  )


def fixed_layers(network: Network) -> list[Edge]:
  """The edges that are not searched."""
  searched = {edge.name for edge in network.edges}
  return [edge for edge in network.layers if edge.name not in searched]


def describe(network: Network) -> tuple[str, ...]:
  """The shapes of all layers, on which a table depends too, as text."""
  searched = {edge.name for edge in network.edges}
  return tuple(
    _describe(edge, edge.name in searched) for edge in network.layers
  )


def _describe(edge: Edge, searched: bool) -> str:
  before, after = (
    "x".join(map(str, shape)) for shape in (edge.shape_in, edge.shape_out)
  )
  shapes = f"{edge.name} {before} -> {after}"
  shapes += " + shortcut" if edge.shortcut else ""
  return shapes if searched else f"{shapes} {edge.op.name}"


def check_space(
  table: CostTable, network: Network, ops: Sequence[Sequence[str]]
) -> None:
  """Raises a ValueError for a network that the table does not cover.

  Args:
    table: table of costs.
    network: a space or an architecture.
    ops: names of operations that the table must have, per edge of `network`.
  """
  own, others = set(table.layers), set(describe(network))
  wrong = sorted(own ^ others)
  rows = dict(zip(table.edges, table.ops))
  wrong += [
    f"{edge.name}/{op}"
    for edge, names in zip(network.edges, ops)
    for op in names
    if edge.name in rows and op not in rows[edge.name]
  ]
  if wrong:
    raise ValueError(
      f"the table ({table.source}) and the network differ in {wrong}: use the "
      "table of the space from which the network was chosen"
    )
