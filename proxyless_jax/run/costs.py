"""The costs of a search: from a config to tables and forms."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from proxyless_jax.hardware import (
  CostTable,
  cost_table,
  other_scales,
  parse_quantity,
  split_quantity,
)
from proxyless_jax.nas import derive, gates, objective
from proxyless_jax.run.config.sections import CostOptions
from proxyless_jax.run.storage.json_files import read_fields, write_json
from proxyless_jax.space import Network

TABLES = "tables.json"
# The fields of a config for those parameters of forms that have other names.
IN_CONFIG = {"target": "reference", "rate": "weight", "scale": "weight"}
# A reference that is so many times below or above all costs, but would be among
# them in another unit, has the wrong unit.
FAR = 100.0
WORDS = {objective.AtMost: "at most", objective.Exactly: "exactly"}


def make_costs(
  options: Mapping[str, CostOptions], space: Network
) -> tuple[objective.Cost, ...]:
  """The costs that a config asks for, in the units of their tables.

  Args:
    options: `search.costs` of the config.
    space: space that is searched.

  Raises:
    ValueError: a table that does not cover the space, a reference in another
      unit, or a target that no architecture can meet, or that all meet.
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
  make = {
    "linear": lambda: objective.Linear(weight, reference),
    "log": lambda: objective.Log(weight, exponent, reference),
    "multiplicative": lambda: objective.Multiplicative(reference, exponent),
    "absolute": lambda: objective.Absolute(reference, weight),
    "at_most": lambda: objective.AtMost(reference, weight),
    "exactly": lambda: objective.Exactly(reference, weight),
  }[options.form]
  try:
    form = make()
  except ValueError as error:
    parameter, _, problem = str(error).partition(" ")
    parameter = IN_CONFIG.get(parameter, parameter)
    raise ValueError(f"{where}.{parameter} {problem}") from error
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
  """Refuses a form that is not defined for some architecture of the space."""
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
  """Refuses a target without effect, and a reference with a wrong prefix."""
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
    every = "; every architecture meets this one: lower it, or leave it out"
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

  A config has only the paths of tables; a search that went on with other costs
  would mix two experiments. Of several hosts, one calls.

  Args:
    workdir: folder of the run.
    costs: costs of the search.

  Raises:
    ValueError: a table has changed since the start of the search.
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


def check_targets(costs: Sequence[objective.Cost], space: Network) -> None:
  """Checks that an architecture of the space meets all targets together.

  Args:
    costs: costs of the search.
    space: space that is searched.

  Raises:
    ValueError: none does.
  """
  valid = gates.valid_candidates(space)
  any_path = derive.derive(np.zeros(valid.shape), valid, constraints(costs))
  missed = missed_targets(costs, space, any_path)
  if missed:
    raise ValueError(f"{missed}: change a reference or a form, or the space")


def constraints(costs: Sequence[objective.Cost]) -> list[derive.Constraint]:
  """The targets that deriving meets: those of the costs that have tables."""
  return [
    derive.Constraint(cost.table, cost.form.low, cost.form.high)
    for cost in costs
    if cost.table is not None and isinstance(cost.form, objective.Target)
  ]


def near_targets(
  costs: Sequence[objective.Cost], near: float, valid: np.ndarray
) -> list[derive.Constraint]:
  """The targets as `constraints`, for networks that cost nearly as much.

  One after the other, each target is also asked for its least cost, if there is
  still a network that meets all.

  Args:
    costs: costs of the search.
    near: least cost, as a part of the target.
    valid: bool[e, k], the candidates of the space.
  """
  limits = constraints(costs)
  for number, limit in enumerate(limits):
    higher = limit._replace(low=max(limit.low, near * limit.high))
    asked = [*limits[:number], higher, *limits[number + 1 :]]
    path = derive.derive(np.zeros(valid.shape), valid, asked)
    if derive.misses(asked, path) <= derive.ROUNDING:
      limits = asked
  return limits


def missed_targets(
  costs: Sequence[objective.Cost], space: Network, index: np.ndarray
) -> str:
  """The message that no architecture meets all targets, with the nearest one.

  Args:
    costs: costs of the search.
    space: space that is searched.
    index: i64[e], the architecture that `derive` gave.

  Returns:
    The message; '' where the architecture meets the targets.
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
    "search.costs: no architecture of the space meets all targets; the "
    f"nearest has {', '.join(found)}"
  )
