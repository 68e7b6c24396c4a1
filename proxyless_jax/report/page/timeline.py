"""How the probabilities of each edge moved: the data of the slider."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from proxyless_jax.report.alpha import probabilities
from proxyless_jax.report.page.charts import thinned
from proxyless_jax.report.page.contents import Contents

# Of a search with more edges, only the leading candidate of each is shown.
DETAILED = 40
# Frames of the slider, and characters of all of them together.
MOST, FEWEST, CHARACTERS = 120, 12, 600_000


def timeline(contents: Contents) -> dict[str, Any] | None:
  """Steps, edges, names of candidates, and a text for each frame.

  A frame has two hexadecimal digits for each candidate of each edge, in order:
  its probability in 255ths. Without alpha.jsonl, or search.json, None.
  """
  edges, lines = contents.search.get("edges"), contents.alpha
  if not edges or not lines:
    return None
  ops = list(dict.fromkeys(op for edge in edges for op in edge["ops"]))
  each = 2 * sum(len(edge["ops"]) for edge in edges)
  lines = thinned(lines, max(FEWEST, min(MOST, CHARACTERS // each)))
  return {
    "detailed": len(edges) <= DETAILED,
    "steps": [line["step"] for line in lines],
    "ops": ops,
    "edges": [
      {
        "name": edge["name"],
        "group": group(edge["name"]),
        "ops": [ops.index(op) for op in edge["ops"]],
      }
      for edge in edges
    ],
    "frames": [_frame(line["alpha"]) for line in lines],
  }


def decoded(moved: dict[str, Any], frame: int) -> list[np.ndarray]:
  """The probabilities of a frame of a timeline: f64[candidates] by edge."""
  values = np.frombuffer(bytes.fromhex(moved["frames"][frame]), np.uint8) / 255
  ends = np.cumsum([len(edge["ops"]) for edge in moved["edges"]])
  return np.split(values, ends[:-1])


def group(name: str) -> str:
  """The block of an edge, such as 'block01' of 'block01_edge0_1'."""
  return re.split(r"_", name, maxsplit=1)[0]


def _frame(alpha: list[list[float]]) -> str:
  return "".join(
    f"{round(255 * prob):02x}" for row in probabilities(alpha) for prob in row
  )
