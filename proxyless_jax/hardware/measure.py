"""Measures the table of a space on a runtime, and checks it on whole networks.

1. Every block of the space (operation, widths, stride, size, shortcut) is
   measured alone, equal ones once, minus the cost of an edge without work.
2. Whole networks are drawn from the space and measured; all costs are fitted to
   them with the blocks alone as the prior (`proxyless_jax.hardware.fit`).
3. Other networks, drawn separately and used for nothing else, are measured
   twice: the table's error is its distance from their mean, the noise is the
   distance of the two measurements.

'zero' costs nothing, by definition.
"""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Callable, Mapping

import numpy as np

from proxyless_jax.hardware.check import Check
from proxyless_jax.hardware.cost import CostTable, make_table
from proxyless_jax.hardware.design import (
  block_of,
  blocks_of,
  draw_networks,
  is_of,
)
from proxyless_jax.hardware.fit import Fit, fit_costs
from proxyless_jax.hardware.journal import Journal, Reading, key_of
from proxyless_jax.hardware.runtime import Runtime
from proxyless_jax.hardware.sampling import Bench, Patience
from proxyless_jax.space import Chain, Edge, Identity, Network

# An edge without work costs the start of a program, and the wait for its end.
IDLE = Chain((), (Edge("idle", (Identity(),), 1, 1, 1, 1),), ())
# Tolerance for blocks alone, which are only a prior, over that for networks.
ROUGH = 2.5
Progress = Callable[[int, int, str, Reading], None]


@dataclasses.dataclass(frozen=True)
class Plan:
  """A plan for measuring a table.

  Attributes:
    calibration: number of whole networks that the table is fitted to, 4 or
      more.
    held_out: number of other networks that it is checked on, 2 or more.
    patience: criterion for the end of each reading.
    seed: seed of the networks drawn.
  """

  calibration: int = 60
  held_out: int = 30
  patience: Patience = dataclasses.field(default_factory=Patience)
  seed: int = 0

  def __post_init__(self) -> None:
    for field, least in (("calibration", 4), ("held_out", 2)):
      if getattr(self, field) < least:
        raise ValueError(
          f"{field} = {getattr(self, field)}: expected {least} or more networks"
        )


def build_table(
  space: Network,
  runtime: Runtime,
  plan: Plan = Plan(),  # frozen
  *,
  journal: str | os.PathLike | None = None,
  known: Mapping[str, Network] | None = None,
  on_reading: Progress | None = None,
  details: Mapping[str, object] | None = None,
) -> tuple[CostTable, Check]:
  """Measures a table of costs, and its errors on other networks.

  Args:
    space: space whose candidates are measured.
    runtime: runtime that measures.
    plan: numbers of networks, and patience.
    journal: path of the file that keeps every reading; a call with the same
      path continues where an earlier one was stopped.
    known: architectures of the space by name, as from `published_in`; checked
      too, and never fitted to. Networks of other spaces are ignored.
    on_reading: function called after each reading with the number of readings
      so far, their total number, the reading's key and the reading.
    details: entries to add to the details of the table.

  Raises:
    ValueError: a journal of another measurement, a plan that the space has too
      few architectures for, or costs that are no costs.
  """
  work = _Work(space, plan, known or {})
  readings = Journal(journal, work.header(runtime, plan.patience))
  total = sum(len(part) for part in work.parts)

  def report(key: str, reading: Reading) -> None:
    if on_reading:
      on_reading(len(readings), total, key, reading)

  bench = Bench(runtime, work.reference, readings, report, plan.seed)
  rough = dataclasses.replace(
    plan.patience, tolerance=ROUGH * plan.patience.tolerance
  )
  for part, patience in zip(work.parts, (rough, *[plan.patience] * 3)):
    bench.measure(part, patience)
  fit = work.fit(readings)
  table = work.table(runtime, fit, readings.level)
  check = work.check(table, readings, runtime.unit)
  own = {"runtime": runtime.name, **runtime.setting}
  own |= work.details(fit, readings, check)
  own |= details or {}
  _check_finite(own, runtime)
  return dataclasses.replace(table, details=own), check


def _check_finite(details: Mapping[str, object], runtime: Runtime) -> None:
  for name, value in details.items():
    if isinstance(value, float) and not np.isfinite(value):
      raise ValueError(
        f"runtime {runtime.name!r}: {name} = {value}: expected a finite "
        "number: check that the runtime's costs are plausible"
      )


class _Work:
  """The networks to measure, and the results of their readings."""

  def __init__(
    self, space: Network, plan: Plan, known: Mapping[str, Network]
  ) -> None:
    self._space = space
    self._blocks = blocks_of(space)
    self._known = {n: net for n, net in known.items() if is_of(net, space)}
    apart = tuple(self._known.values())
    calibration = draw_networks(space, plan.calibration, plan.seed, apart)
    apart += tuple(calibration)
    held_out = draw_networks(space, plan.held_out, plan.seed + 1, apart)
    self.reference = calibration[0]
    alone = {block: Chain((), (block,), ()) for block in self._blocks}
    self._alone = _keyed("alone", [IDLE, *alone.values()])
    self._calibration = _keyed("calibration", calibration)
    self._passes = [
      _keyed(f"check{i}", [*held_out, *self._known.values()]) for i in (1, 2)
    ]
    self._held_out = len(held_out)

  def header(self, runtime: Runtime, patience: Patience) -> dict:
    """Everything that the readings of a journal depend on."""
    header = {**runtime.setting, "runtime": runtime.name, "unit": runtime.unit}
    if not runtime.settled:
      header |= dataclasses.asdict(patience)
    header |= {"space": key_of("space", self._space)}
    return header | {"reference": key_of("network", self.reference)}

  @property
  def parts(self) -> list[dict[str, Network]]:
    """The networks to measure, in order, by key."""
    return [self._alone, self._calibration, *self._passes]

  def fit(self, readings: Journal) -> Fit:
    """The fit, in units of the reference network's cost."""
    idle, *blocks = [readings[key].cost for key in self._alone]
    networks = list(self._calibration.values())
    counts = np.array([self._counts(network) for network in networks])
    measured = np.array([readings[key].cost for key in self._calibration])
    errors = np.array([readings[key].error for key in self._calibration])
    alone = np.maximum(np.array(blocks) - idle, 0.0)
    return fit_costs(counts, measured, alone, errors)

  def _counts(self, network: Network) -> list[int]:
    found = collections.Counter(block_of(e, e.op) for e in network.edges)
    return [found[block] for block in self._blocks]

  def table(self, runtime: Runtime, fit: Fit, level: float) -> CostTable:
    """The table; `level` is the cost of the reference network."""
    costs = dict(zip(self._blocks, (fit.costs * level).tolist()))
    return make_table(
      self._space,
      lambda op, edge: costs.get(block_of(edge, op), 0.0),
      fixed=fit.fixed * level,
      unit=runtime.unit,
      source=f"measured: {runtime.name}",
    )

  def check(self, table: CostTable, readings: Journal, unit: str) -> Check:
    """The table against the networks that it was not fitted to."""
    networks = list(self._passes[0].values())
    predicted = np.array([table.exact(network) for network in networks])
    measured = readings.level * np.array(
      [[readings[key].cost for key in keys] for keys in self._passes]
    )
    costs = dict(
      zip(networks, zip(predicted.tolist(), measured.mean(0).tolist()))
    )
    known = {name: costs[network] for name, network in self._known.items()}
    n = self._held_out
    return Check(predicted[:n], measured[:, :n], known, unit)

  def details(self, fit: Fit, readings: Journal, check: Check) -> dict:
    """Details of the measurement for the table."""
    infinite = np.isinf(fit.penalty)
    return {
      "blocks": len(self._blocks),
      "calibration": len(self._calibration),
      "fit_scale": fit.scale,
      "fit_penalty": "infinite" if infinite else float(fit.penalty),
      "fit_error": fit.error,
      "reference": readings.level,
      "readings": len(readings),
      "seconds": round(readings.seconds, 1),
      **check.summary(),
      "known": {name: list(pair) for name, pair in check.known.items()},
    }


def _keyed(kind: str, networks: list[Network]) -> dict[str, Network]:
  return {key_of(kind, network): network for network in networks}
