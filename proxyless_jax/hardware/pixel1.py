"""Measured latency of the default mobile space's blocks on a Pixel 1 phone.

Cai, Zhu and Han measured it for ProxylessNAS (ICLR 2019) and released it;
`tables/pixel1.csv` names the file. Blocks are identified by shapes, so the
table covers the default mobile space at 224x224 and every space of its blocks.
"""

from __future__ import annotations

import csv
import functools
import importlib.resources

from proxyless_jax.hardware.cost import CostTable, fixed_layers, make_table
from proxyless_jax.space import (
  Classifier,
  ConvBN,
  Edge,
  MBConv,
  Network,
  Op,
  Zero,
  named,
)

SOURCE = "Pixel 1, measured by the authors of ProxylessNAS"


def pixel1_table(space: Network) -> CostTable:
  """The phone's table of a space, in ms.

  Raises:
    ValueError: blocks that were not measured; all are listed.
  """
  rows = _rows()
  missing = []

  def latency(op: Op, edge: Edge) -> float:
    if isinstance(op, Zero):
      return 0.0
    key = _key(op, edge)
    if key not in rows:
      missing.append(f"{edge.name}/{op.name} ({key or 'no such layer'})")
    return rows.get(key, 0.0)

  fixed = sum(latency(edge.op, edge) for edge in fixed_layers(space))
  table = make_table(space, latency, fixed=fixed, unit="ms", source=SOURCE)
  if missing:
    raise ValueError(
      f"the table pixel1 lacks {missing}: it has the blocks of the default "
      "mobile space at 224x224 with 1000 classes; measure a table of your own "
      "for others"
    )
  return table


def _key(op: Op, edge: Edge) -> str:
  """As `_row_key`; '' for an operation of a type that was not measured."""
  op = named(op)  # Times do not depend on epsilon.
  one, other = (
    "x".join(map(str, shape)) for shape in (edge.shape_in, edge.shape_out)
  )
  if isinstance(op, MBConv) and op == MBConv(op.expand, op.kernel):
    inner = op.expand, op.kernel, edge.stride, int(edge.shortcut)
    return " ".join(map(str, ("mbconv", one, other, *inner)))
  if isinstance(op, Classifier):
    return f"classifier {one} {edge.features_out}"
  layers = {ConvBN(3): "stem", ConvBN(1): "head"}
  return f"{layers[op]} {one} {other}" if op in layers else ""


def _row_key(row: dict[str, str]) -> str:
  shapes = ("layer", "input_hwc", "output_hwc")
  columns = (*shapes, "expand", "kernel", "stride", "residual")
  return " ".join(row[name] for name in columns if row[name])


@functools.lru_cache(maxsize=1)
def _rows() -> dict[str, float]:
  path = importlib.resources.files(__package__) / "tables" / "pixel1.csv"
  lines = path.read_text(encoding="utf-8").splitlines()
  rows = csv.DictReader(line for line in lines if not line.startswith("#"))
  return {_row_key(row): float(row["mean_ms"]) for row in rows}
