"""The costs of a search: from a config to tables, forms and calls."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from proxyless_jax.hardware import (
  CostTable,
  cost_table,
  other_scales,
  parse_quantity,
  split_quantity,
)
from proxyless_jax.nas import derive, objective
from proxyless_jax.run.config.sections import CostOptions
from proxyless_jax.run.hosts import hosts
from proxyless_jax.run.storage.workdir import read_fields, write_json
from proxyless_jax.space import Network

CALLS, TABLES = "calls.jsonl", "tables.json"
# How a line of the calls begins.
BEGINNING = b'{"cost": '
# How a config calls what forms call otherwise.
IN_CONFIG = {"target": "reference", "rate": "weight", "scale": "weight"}
# A reference so many times below or above all costs, and of which another unit
# would be among them, has the wrong one.
FAR = 100.0
WORDS = {objective.AtMost: "at most", objective.Exactly: "exactly"}


def make_costs(
  options: Mapping[str, CostOptions], space: Network
) -> tuple[objective.Cost, ...]:
  """The costs that a config asks for, in the units of their tables.

  Raises:
    ValueError: a table that does not cover the space, a reference of another
      unit, or a target that no architecture can keep, or that all keep.
  """
  return tuple(_make(name, cost, space) for name, cost in options.items())


def _make(name: str, options: CostOptions, space: Network) -> objective.Cost:
  table, where = None, f"search.costs.{name}"
  field = f"{where}.reference"
  if callable(options.kind):
    reference, _ = split_quantity(options.reference, field)
  else:
    table = _table(f"{where}.kind", options.kind, space)
    reference = parse_quantity(options.reference, table.unit, field)
  weight, exponent = options.weight, options.exponent
  form = {
    "linear": lambda: objective.Linear(weight, reference),
    "log": lambda: objective.Log(weight, exponent, reference),
    "multiplicative": lambda: objective.Multiplicative(reference, exponent),
    "absolute": lambda: objective.Absolute(reference, weight),
    "at_most": lambda: objective.AtMost(reference, weight),
    "exactly": lambda: objective.Exactly(reference, weight),
  }[options.form]
  try:
    form = form()
  except ValueError as error:
    called, _, problem = str(error).partition(" ")
    called = IN_CONFIG.get(called, called)
    raise ValueError(f"{where}.{called} {problem}") from error
  if table is not None:
    _check_form(f"{where}.form = {options.form!r}", form, table)
    _check_reference(field, options, table, reference)
  return objective.Cost(name, table, form)


def _table(field: str, kind: str, space: Network) -> CostTable:
  try:
    return cost_table(kind, space)
  except (ValueError, OSError) as error:
    text = str(error).removeprefix("kind")
    colon = "" if text.startswith(" =") else ": "
    raise ValueError(f"{field}{colon}{text}") from error


def _check_form(where: str, form: objective.Form, table: CostTable) -> None:
  """Refuses a form that has no value for some architecture of the space."""
  lowest = {objective.Log: 1.0, objective.Multiplicative: 0.0}.get(type(form))
  if lowest is not None and not table.min_cost > lowest:
    raise ValueError(
      f"{where}: expected costs above {lowest:g}, got {table.min_cost:.6g} "
      f"{table.unit} for the cheapest architecture of the space: give the "
      "table in a smaller unit, or use another form"
    )


def _check_reference(
  field: str, options: CostOptions, table: CostTable, value: float
) -> None:
  """Refuses a target that says nothing, and a reference of a wrong prefix."""
  low, high = table.min_cost, table.max_cost
  if low <= value <= high:
    return
  meant = _meant(options.reference, table)
  is_target = options.form in ("at_most", "exactly")
  if not is_target and not (meant and not low / FAR < value < high * FAR):
    return
  what = "target" if is_target else "reference"
  every = ""
  if options.form == "at_most" and value > high:
    every = "; every architecture keeps this one: lower it, or leave it out"
  raise ValueError(
    f"{field} = {options.reference!r}: expected a {what} from {_shown(low)} "
    f"{table.unit}, the cheapest architecture of the space, to {_shown(high)} "
    f"{table.unit}, the most expensive one{every}{meant}"
  )


def _shown(cost: float) -> str:
  """With separators, and without the exponent that `g` writes from 1e6 on."""
  return f"{cost:,.0f}" if 1e5 <= cost < 1e15 else f"{cost:,.6g}"


def _meant(reference: str, table: CostTable) -> str:
  """The end of an error: the same number in a unit in which it would fit."""
  for text in other_scales(reference, table.unit):
    if table.min_cost <= parse_quantity(text, table.unit) <= table.max_cost:
      return f"; did you mean {text!r}?"
  return ""


def keep_tables(
  workdir: str | os.PathLike, costs: Sequence[objective.Cost]
) -> None:
  """Keeps digests of the tables, or checks that they are still the same.

  The config has the paths of tables alone, and a search that went on with
  other costs would mix two.

  Of several hosts, one calls.

  Raises:
    ValueError: a table is another one than at the start of the search.
  """
  path = os.path.join(workdir, TABLES)
  digests = {
    cost.name: cost.table.digest for cost in costs if cost.table is not None
  }
  if not os.path.exists(path):
    write_json(path, digests)
    return
  saved = read_fields(path)
  for cost in costs:
    if cost.table and saved.get(cost.name) != digests[cost.name]:
      raise ValueError(
        f"search.costs.{cost.name}.kind: the table ({cost.table.source}) is "
        f"not the one that the search in {os.fspath(workdir)} began with: "
        "restore it, or use another workdir"
      )


def constraints(costs: Sequence[objective.Cost]) -> list[derive.Constraint]:
  """The targets that deriving keeps: those of the costs that have tables."""
  return [
    derive.Constraint(cost.table, cost.form.low, cost.form.high)
    for cost in costs
    if cost.table is not None and isinstance(cost.form, objective.Target)
  ]


def missed_targets(costs, space: Network, index: np.ndarray) -> str:
  """Says that no architecture keeps all targets, and what is nearest.

  Args:
    costs: of a search.
    space: that is searched.
    index: i64[e], what `derive` gave.

  Returns:
    Nothing where the targets are kept.
  """
  if derive.misses(constraints(costs), index) <= derive.ROUNDING:
    return ""
  network = space.choose(index.tolist())
  found = [
    f"{cost.name} {cost.table.exact(network):,.6g} {cost.table.unit} for the "
    f"target {WORDS[type(cost.form)]} {cost.form.target:,.6g}"
    for cost in costs
    if cost.table is not None and isinstance(cost.form, objective.Target)
  ]
  return (
    "search.costs: no architecture of the space keeps all targets; the "
    f"nearest has {', '.join(found)}"
  )


class Calls:
  """What functions say of networks: each is asked once for each network.

  The answers are kept in a file of the workdir, so that a search that goes on
  sees what it saw, even where a measurement would not come out the same. Of
  several hosts, the first asks and keeps, and all see the same.
  """

  def __init__(
    self,
    space: Network,
    options: Mapping[str, CostOptions],
    workdir: str | os.PathLike,
  ):
    """Makes no file.

    Args:
      space: whose architectures are asked for.
      options: of all costs, of which it takes those with a function.
      workdir: of the run.
    """
    self._space = space
    self._functions: dict[str, Callable[[Network], float]] = {
      name: cost.kind for name, cost in options.items() if callable(cost.kind)
    }
    self._path = os.path.join(workdir, CALLS)
    self._known: dict[tuple, float] | None = None

  def __call__(self, paths: np.ndarray) -> dict[str, np.ndarray]:
    """f32[n] by cost, of paths i32[n, e]."""
    if not self._functions:
      return {}
    networks = [self._space.choose(path) for path in np.asarray(paths).tolist()]
    return {
      name: np.array([self.of(name, n) for n in networks], np.float32)
      for name in self._functions
    }

  def of(self, name: str, network: Network) -> float:
    """What a network costs.

    Raises:
      ValueError: the function gave no positive number.
    """
    if self._known is None:
      known = hosts.on_first(lambda: [[*k, v] for k, v in self._read()])
      self._known = {(cost, tuple(ops)): v for cost, ops, v in known}
    ops = tuple(edge.op.name for edge in network.edges)
    if (name, ops) not in self._known:
      value = hosts.on_first(lambda: self._ask(name, network, ops))
      self._known[name, ops] = value
    return self._known[name, ops]

  def _ask(self, name: str, network: Network, ops) -> float:
    said = self._functions[name](network)
    value = _scalar(said)
    if not 0.0 < value < math.inf:
      raise ValueError(
        f"search.costs.{name}.kind gave {said!r} for the network {ops}: "
        "expected a positive number; let the function return one"
      )
    self._write(name, ops, value)
    return value

  def _read(self):
    if not os.path.exists(self._path):
      return
    with open(self._path, "rb+") as file:
      *lines, last = file.read().split(b"\n")
      for number, line in enumerate(lines, 1):
        yield self._call(number, line)
      if not last:
        return
      # A line that was being written when the run was stopped has no end.
      if last[: len(BEGINNING)] != BEGINNING[: len(last)]:
        self._refuse(len(lines) + 1, last)
      file.truncate(sum(len(line) + 1 for line in lines))

  def _call(self, number: int, line: bytes):
    try:
      call = json.loads(line)
      key = call["cost"], tuple(call["network"])
      value = _scalar(call["value"])
      hash(key)
    except (ValueError, TypeError, KeyError):
      value = math.nan
    if not 0.0 < value < math.inf:
      self._refuse(number, line)
    return key, value

  def _refuse(self, number: int, line: bytes):
    text = line.decode(errors="replace")
    raise ValueError(
      f"{self._path} line {number}: {text[:80]!r}: expected a call such as "
      '{"cost": "energy", "network": ["zero"], "value": 1.5}; remove the line, '
      "or move the file away"
    )

  def _write(self, name: str, ops, value: float) -> None:
    line = json.dumps({"cost": name, "network": ops, "value": value})
    with open(self._path, "a", encoding="utf-8") as file:
      file.write(f"{line}\n")


def _scalar(value) -> float:
  """A number of any library as a float; NaN for what is none."""
  try:
    if isinstance(value, bool | str | bytes) or np.ndim(value):
      return math.nan
    return float(value)
  except (TypeError, ValueError, OverflowError):
    return math.nan
