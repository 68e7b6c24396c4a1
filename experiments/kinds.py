"""What sums over devices are of, as far as their names and shapes tell."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from experiments import hlo

# Of the batch in the forward pass; of candidates that an architecture step runs
# beside the drawn ones; batch norm's sums in the backward pass.
_OF_NORMS = ("moments", "other moments", "backward")
# And gradients of weights or of gates; metrics.
KINDS = (*_OF_NORMS, "rest", "scalars")


def by_kind(collectives: Counter[hlo.Collective]) -> dict[str, int]:
  """Bytes by `KINDS`."""
  kinds = Counter()
  for one, times in collectives.items():
    for shape, source in _arrays_of(one):
      kinds[_kind(shape, source)] += times * hlo.bytes_of(shape)
  return dict(kinds)


def _arrays_of(one: hlo.Collective):
  """Shapes with their sources: XLA joins the names of sums that it merges."""
  merged = re.search(r"\((\S+:\S+)\)$", one.source)
  sources = merged[1].split(":") if merged else [one.source]
  if len(sources) != len(one.shapes):
    sources = [one.source] * len(one.shapes)
  return zip(one.shapes, sources)


def _kind(shape: str, source: str) -> str:
  if shape.endswith("[]"):
    return "scalars"
  if source.endswith("bn._moments/psum"):
    return "other moments" if "transpose(" in source else "moments"
  return "backward" if source.endswith("bn/psum") else "rest"


def summary(collectives: Counter[hlo.Collective]) -> dict[str, Any]:
  """Bytes, by kind too, and how many collectives; all must be sums.

  'of_norms' counts those that batch norm waits for.
  """
  others = {one.kind for one in collectives} - {"all-reduce"}
  if others:
    raise ValueError(f"collectives {others}: expected sums alone")
  return {
    "bytes": hlo.total_bytes(collectives),
    "collectives": sum(collectives.values()),
    "of_norms": sum(
      times
      for one, times in collectives.items()
      if any(_kind(*array) in _OF_NORMS for array in _arrays_of(one))
    ),
    "by_kind": by_kind(collectives),
  }
