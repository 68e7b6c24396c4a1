"""What a run writes so that `report.html` can be made from its workdir.

The report reads files alone, so that it can also be written later, or by a
machine without the device of the run: `python -m proxyless_jax.report WORKDIR`.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from typing import Any

from proxyless_jax.nas import objective
from proxyless_jax.report.page import SEARCH, write_report
from proxyless_jax.run.storage.json_files import write_json
from proxyless_jax.space import Network


def keep_search(
  workdir: str | os.PathLike,
  space: Network,
  costs: Sequence[objective.Cost],
) -> None:
  """Writes search.json: the candidates of each edge, and what they cost.

  Of several hosts, one calls.

  Args:
    workdir: folder of the run, which exists.
    space: the search space.
    costs: costs of the search.
  """
  edges = [
    {"name": edge.name, "ops": [op.name for op in edge.ops]}
    for edge in space.edges
  ]
  found = {
    "log10_size": space.log10_size,
    "edges": edges,
    "costs": {cost.name: _described(cost) for cost in costs},
  }
  write_json(os.path.join(workdir, SEARCH), found)


def _described(cost: objective.Cost) -> dict[str, Any]:
  """A cost's table, if it has one, and what its form asks for."""
  form, found = cost.form, dict[str, Any]()
  for name in ("target", "reference", "low", "high"):
    value = getattr(form, name, None)
    if isinstance(value, int | float) and math.isfinite(value):
      found[name] = value
  if cost.table is not None:
    found |= {
      "unit": cost.table.unit,
      "source": cost.table.source,
      "combine": cost.table.combine,
      "fixed": cost.table.fixed,
      "table": cost.table.costs.tolist(),
    }
  return found


def keep_report(workdir: str | os.PathLike) -> None:
  """Writes the workdir's report.html; a failure is a warning.

  A run of days must not end for its picture. Of several hosts, one calls.
  """
  try:
    write_report(workdir)
  except Exception as error:
    warnings.warn(
      f"report.html could not be written ({type(error).__name__}: {error}); "
      "the run goes on; to write it: "
      f"python -m proxyless_jax.report {workdir}",
      stacklevel=2,
    )
