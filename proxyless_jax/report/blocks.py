"""An architecture as lines of text: one for each stage of the network."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable

from proxyless_jax.report.looks import words_or_skip
from proxyless_jax.space import Edge, Network

# Blocks that are named one by one; of more, each kind is counted.
NAMED = 8
# A network whose width changes in more stages than this has a line for each
# size of its images instead.
LINES = 12


def stage_lines(network: Network) -> list[tuple[str, str]]:
  """The searched blocks of an architecture, stage by stage.

  A stage is a run of edges whose outputs have the same shape; or, where there
  are more than `LINES` of these, the same height and width.

  Args:
    network: an architecture.

  Returns:
    (shape, blocks) by stage, such as ('14×14×40', 'MB6 5×5, skip'): the shape
    of the stage's output, and the operations of its edges in their order.
  """
  stages = _runs(network, 3)
  if len(stages) > LINES:
    stages = _runs(network, 2)
  return stages


def _runs(network: Network, dimensions: int) -> list[tuple[str, str]]:
  """Runs of edges whose outputs are alike in the first dimensions."""
  runs = itertools.groupby(
    network.edges, lambda edge: edge.shape_out[:dimensions]
  )
  return [("×".join(map(str, shape)), _named(edges)) for shape, edges in runs]


def _named(edges: Iterable[Edge]) -> str:
  names = [words_or_skip(edge.op) for edge in edges]
  if len(names) > NAMED:
    names = [f"{count} {name}" for name, count in Counter(names).most_common()]
  return ", ".join(names)
