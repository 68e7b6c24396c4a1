"""Cost tables from files: JSON that `CostTable.to_json` wrote, or a CSV.

A CSV of your own has the columns edge, op, cost and unit: a row for each
candidate of each searched edge, and one row with the edge 'fixed' and no op for
everything that is not searched:

    edge,op,cost,unit
    fixed,,7.2,ms
    block01,mbconv3_k3,1.3,ms
"""

from __future__ import annotations

import csv
import json
import math
import os
from typing import Any, TextIO

from proxyless_jax.hardware.cost import (
  VERSION,
  CostTable,
  describe,
  make_table,
)
from proxyless_jax.space import Network
from proxyless_jax.space.checks import check_path
from proxyless_jax.space.networks.network import check_network

ENDINGS = (".json", ".csv")
# Fields of a JSON file, and their types.
FIELDS: dict[str, type | tuple[type, ...]] = {
  **{"version": int, "unit": str, "source": str, "combine": str},
  **{"details": dict, "layers": list, "fixed": (int, float), "costs": dict},
}
COLUMNS = ["edge", "op", "cost", "unit"]


def load_table(path: str | os.PathLike, space: Network) -> CostTable:
  """Reads the table of a space.

  Args:
    path: path of a JSON or CSV file.
    space: space of the table; the file may have more candidates.

  Raises:
    ValueError: a file that contains no table, or the table of another space,
      or that lacks candidates, which are listed.
    OSError: the file does not exist, or it cannot be read.
  """
  check_path("path", path)
  check_network("space", space)
  path = os.path.expanduser(path)
  read = _read_csv if path.endswith(".csv") else _read_json
  try:
    # Spreadsheets begin a file with a byte order mark.
    with open(path, encoding="utf-8-sig", newline="") as file:
      table = read(file, os.path.basename(path), space)
  except (FileNotFoundError, IsADirectoryError) as error:
    raise type(error)(
      f"{path}: expected the file of a table, JSON or CSV ({error.strerror}): "
      "job 'measure' writes a table.json into its workdir"
    ) from error
  except UnicodeDecodeError as error:
    raise ValueError(
      f"{path}: expected text in UTF-8 ({error}): save the file as UTF-8"
    ) from error
  except (ValueError, csv.Error) as error:
    raise ValueError(f"{path}: {error}") from error
  if table.min_cost < 0.0:
    raise ValueError(
      f"{path}: the cheapest architecture costs {table.min_cost:.6g} "
      f"{table.unit}: expected 0 or more; correct or measure the negative costs"
    )
  return table


def _read_json(file: TextIO, name: str, space: Network) -> CostTable:
  del name
  try:
    fields = json.load(file)
  except json.JSONDecodeError as error:
    raise ValueError(
      f"no JSON ({error}): expected a table as CostTable.to_json writes it; "
      "the file may be cut: copy or measure it again"
    ) from error
  _check_fields(fields)
  costs = {
    edge: {op: _number(f"costs.{edge}.{op}", cost) for op, cost in row.items()}
    for edge, row in fields["costs"].items()
  }
  return _assemble(
    space,
    costs,
    _number("fixed", fields["fixed"]),
    unit=fields["unit"],
    source=fields["source"],
    combine=fields["combine"],
    details=fields["details"],
    layers=tuple(fields["layers"]),
  )


def _check_fields(fields: Any) -> None:
  expected = sorted(FIELDS)
  if not isinstance(fields, dict) or sorted(fields) != expected:
    got = sorted(fields) if isinstance(fields, dict) else fields
    raise ValueError(
      f"expected a table with the fields {expected}, got {got}: use a file "
      "that CostTable.to_json wrote"
    )
  for name, kind in FIELDS.items():
    _check_kind(name, fields[name], kind)
  for i, layer in enumerate(fields["layers"]):
    _check_kind(f"layers[{i}]", layer, str)
  for edge, row in fields["costs"].items():
    _check_kind(f"costs.{edge}", row, dict)
  if fields["version"] != VERSION:
    raise ValueError(
      f"version = {fields['version']}: expected {VERSION} for this release; "
      "measure the table again"
    )


def _check_kind(name: str, value: Any, kind: type | tuple[type, ...]) -> None:
  if not isinstance(value, kind) or isinstance(value, bool):
    kinds = kind if isinstance(kind, tuple) else (kind,)
    raise ValueError(
      f"{name} = {value!r}: expected {' or '.join(k.__name__ for k in kinds)}; "
      "restore the file, or measure the table again"
    )


def _read_csv(file: TextIO, name: str, space: Network) -> CostTable:
  reader = csv.DictReader(file)
  costs: dict[str, dict[str, float]] = {}
  units: dict[str, int] = {}
  if sorted(reader.fieldnames or []) != sorted(COLUMNS):
    raise ValueError(
      f"line 1 has the columns {reader.fieldnames}: expected "
      f"{','.join(COLUMNS)}; write them into the first line"
    )
  for row in reader:
    _check_row(f"line {reader.line_num}", row)
    edge, op = row["edge"], row["op"]
    where = "fixed" if edge == "fixed" else f"{edge}/{op}"
    if op in costs.setdefault(edge, {}):
      raise ValueError(
        f"line {reader.line_num}: two rows for {where}: expected one; remove "
        "the other"
      )
    where = f"line {reader.line_num}, {where}"
    costs[edge][op] = _number(where, row["cost"], lowest=0.0)
    units.setdefault(row["unit"], reader.line_num)
  _check_units(units)
  if "fixed" not in costs:
    raise ValueError(
      "no row 'fixed,,COST,UNIT': expected one, for all that is not searched"
    )
  fixed = costs.pop("fixed")[""]
  return _assemble(
    space,
    costs,
    fixed,
    unit=next(iter(units)),
    source=name,
    combine="sum",
    details={},
    layers=describe(space),
  )


def _check_units(units: dict[str, int]) -> None:
  """Raises a ValueError unless there is one unit; `units` has their lines."""
  if len(units) != 1 or "" in units:
    found = [f"{unit!r} in line {line}" for unit, line in units.items()]
    raise ValueError(
      f"units {found}: expected one unit in all rows; write all costs in one"
    )


def _check_row(where: str, row: dict) -> None:
  if None in row or None in row.values():
    got = [value for name, value in row.items() if name and value is not None]
    got += row.get(None, [])
    raise ValueError(
      f"{where}: {got} has {len(got)} columns: expected {len(COLUMNS)}, "
      f"{','.join(COLUMNS)}; complete or remove the row"
    )
  if (row["edge"] == "fixed") != (row["op"] == ""):
    raise ValueError(
      f"{where}: edge = {row['edge']!r}, op = {row['op']!r}: expected an op "
      "for every edge, and none for 'fixed'; correct the row"
    )


def _assemble(
  space: Network,
  costs: dict[str, dict[str, float]],
  fixed: float,
  *,
  layers: tuple[str, ...],
  **fields: Any,
) -> CostTable:
  """The table of a space from costs by edge and operation.

  Raises:
    ValueError: edges or operations that are missing, and other differences;
      all are listed.
  """
  edges = [edge.name for edge in space.edges]
  missing = [
    f"{edge.name}/{op.name}"
    for edge in space.edges
    for op in edge.ops
    if op.name not in costs.get(edge.name, {})
  ]
  different = sorted(set(layers) ^ set(describe(space)))
  unknown = [edge for edge in costs if edge not in edges]
  if missing or different or unknown:
    more = f"; its edges {unknown} are none of {edges}" if unknown else ""
    raise ValueError(
      f"the table ({fields['source']}) lacks {missing} and differs from the "
      f"space in {different}{more}: measure a table of this space"
    )
  return make_table(
    space,
    lambda op, edge: costs[edge.name][op.name],
    fixed=fixed,
    **fields,
  )


def _number(where: str, value: Any, lowest: float = -math.inf) -> float:
  # A measured part may be negative, by noise; one written by hand may not.
  try:
    number = math.nan if isinstance(value, bool) else float(value)
  except (TypeError, ValueError, OverflowError):
    number = math.nan
  if math.isfinite(number) and number >= lowest:
    return number
  bound = f" of {lowest:g} or more" if lowest > -math.inf else ""
  raise ValueError(
    f"{where} = {value!r}: expected a number{bound}, and finite; correct it"
  )
