"""Networks as short tables of text, for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from proxyless_jax.space.edge import Edge, Op, height_width

HEADER = ("edge", "operation", "width", "stride", "size", "parameters", "MACs")
# Rows of a longer network that are shown, at its beginning and at its end.
FIRST, LAST = 12, 5
LONGEST = 28  # Characters of a name that are shown.


def edge_table(edges: Sequence[Edge]) -> str:
  """A line per edge: name, operation, widths, stride, size, parameters, MACs.

  An edge of several candidates has their number, and the least and the largest
  of their counts. Of many edges the first and the last are shown.

  Args:
    edges: edges in the order in which they run.
  """
  rows = [HEADER, *map(_row, edges)]
  if len(edges) > FIRST + LAST + 1:
    more = f"... {len(edges) - FIRST - LAST} more"
    blank = (more, *[""] * (len(HEADER) - 1))
    rows = [*rows[: FIRST + 1], blank, *rows[-LAST:]]
  lengths = [max(map(len, column)) for column in zip(*rows)]
  return "\n".join(_line(row, lengths) for row in rows)


def _row(edge: Edge) -> tuple[str, ...]:
  count = len(edge.ops)
  op = _cut(edge.ops[0].name) if count == 1 else f"{count} candidates"
  op += " + shortcut" if edge.shortcut else ""
  width = f"{edge.features_in} -> {edge.features_out}"
  counts = (
    _range(edge, lambda op: op.parameters(edge)),
    _range(edge, lambda op: op.macs(edge)),
  )
  size = "x".join(map(str, height_width(edge.size)))
  return (_cut(edge.name), op, width, str(edge.stride), size, *counts)


def _cut(name: str) -> str:
  return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."


def _range(edge: Edge, count: Callable[[Op], int]) -> str:
  counts = [count(op) for op in edge.ops]
  ends = sorted({min(counts), max(counts)})
  return " - ".join(f"{end:,}" for end in ends)


def _line(row: Sequence[str], lengths: Sequence[int]) -> str:
  """A row: texts to the left, numbers to the right."""
  texts = [cell.ljust(n) for cell, n in zip(row[:3], lengths[:3])]
  numbers = [cell.rjust(n) for cell, n in zip(row[3:], lengths[3:])]
  return "  ".join([*texts, *numbers]).rstrip()
