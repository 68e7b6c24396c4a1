"""A layered layout of a directed acyclic graph, from left to right.

Sugiyama, Tagawa, Toda, IEEE Trans. SMC 1981: an edge that spans several layers
passes through places of its own in those between; places of a layer are ordered
by the mean of their neighbours' positions; then positions move towards those
means, as near as order and heights allow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence

Node = Hashable
SWEEPS = 24
STRAIGHT = (1, 3, 8)  # Weight of a link, by its ends that only pass through.


@dataclasses.dataclass(frozen=True)
class Layout:
  """Where nodes and edges are.

  Attributes:
    y: vertical position of the middle of each node, up to a shift.
    routes: for each edge, the vertical positions where it passes the layers
      between its ends.
    height: extent of the layout.
  """

  y: Mapping[Node, float]
  routes: Mapping[tuple[Node, Node], list[float]]
  height: float


def lay_out(
  layers: Mapping[Node, int],
  heights: Mapping[Node, float],
  edges: Sequence[tuple[Node, Node]],
  *,
  gap: float,
) -> Layout:
  """Positions of nodes without overlap and with few crossings.

  Args:
    layers: layer of each node; the order is that of the first layout.
    heights: height of each node.
    edges: pairs (source, target), the source in an earlier layer; no two equal.
    gap: smallest distance between neighbours of a layer.
  """
  places, tall = dict(layers), dict(heights)
  links: list[tuple[Node, Node]] = []
  through: dict[tuple[Node, Node], list[Node]] = {}
  for source, target in edges:
    between = range(layers[source] + 1, layers[target])
    own: list[Node] = [("between", source, target, i) for i in between]
    places |= dict(zip(own, between))
    tall |= dict.fromkeys(own, 0.0)
    through[source, target] = own
    links += zip([source, *own], [*own, target])
  columns = _order(places, links)
  y = _positions(columns, links, tall, gap)
  low = min(y[node] - tall[node] / 2 for node in places)
  high = max(y[node] + tall[node] / 2 for node in places)
  y = {node: y[node] - low for node in places}
  routes = {edge: [y[node] for node in own] for edge, own in through.items()}
  return Layout({node: y[node] for node in layers}, routes, high - low)


def _order(
  places: Mapping[Node, int], links: Sequence[tuple[Node, Node]]
) -> list[list[Node]]:
  """The nodes of each layer, in the best order that sweeps find."""
  count = 1 + max(places.values())
  columns: list[list[Node]] = [[] for _ in range(count)]
  for node, layer in places.items():
    columns[layer].append(node)
  best, fewest = (
    [list(column) for column in columns],
    _crossings(columns, links),
  )
  neighbours = _neighbours(links)
  for sweep in range(SWEEPS):
    rank = _ranks(columns)
    order = range(count) if sweep % 2 else reversed(range(count))
    for layer in order:
      mean = {}
      for node in columns[layer]:
        near = [rank[other] for other in neighbours.get(node, [])]
        mean[node] = sum(near) / len(near) if near else rank[node]
      columns[layer].sort(key=mean.__getitem__)
      rank |= _ranks([columns[layer]])
    if (now := _crossings(columns, links)) < fewest:
      best, fewest = [list(column) for column in columns], now
  return best


def _neighbours(links: Sequence[tuple[Node, Node]]) -> dict[Node, list[Node]]:
  found: dict[Node, list[Node]] = {}
  for one, other in links:
    found.setdefault(one, []).append(other)
    found.setdefault(other, []).append(one)
  return found


def _ranks(columns: Sequence[Sequence[Node]]) -> dict[Node, float]:
  """Positions in their layers, between 0 and 1."""
  return {
    node: (i + 0.5) / len(column)
    for column in columns
    for i, node in enumerate(column)
  }


def _crossings(
  columns: Sequence[Sequence[Node]], links: Sequence[tuple[Node, Node]]
) -> int:
  rank = _ranks(columns)
  layer = {node: i for i, column in enumerate(columns) for node in column}
  found = 0
  for i, (a, b) in enumerate(links):
    for c, d in links[i + 1 :]:
      if layer[a] == layer[c]:
        found += (rank[a] - rank[c]) * (rank[b] - rank[d]) < 0
  return found


def _positions(
  columns: Sequence[Sequence[Node]],
  links: Sequence[tuple[Node, Node]],
  heights: Mapping[Node, float],
  gap: float,
) -> dict[Node, float]:
  """Positions near the means of the neighbours', in the order of the layers."""
  y: dict[Node, float] = {}
  offsets = {}
  for column in columns:
    at = 0.0
    for i, node in enumerate(column):
      if i:
        at += (heights[column[i - 1]] + heights[node]) / 2 + gap
      offsets[node] = at
    y |= {node: offsets[node] - at / 2 for node in column}
  near: dict[Node, list[tuple[Node, int]]] = {}
  for one, other in links:
    # Straight lines first: Gansner et al., IEEE Trans. Softw. Eng. 1993.
    weight = STRAIGHT[(heights[one] == 0) + (heights[other] == 0)]
    near.setdefault(one, []).append((other, weight))
    near.setdefault(other, []).append((one, weight))
  for sweep in range(4 * SWEEPS):
    for column in columns[:: 1 if sweep % 2 else -1]:
      wanted, weights = [], []
      for node in column:
        own = near.get(node, [(node, 1)])
        weights.append(sum(weight for _, weight in own))
        total = sum(weight * y[other] for other, weight in own)
        wanted.append(total / weights[-1] - offsets[node])
      shifts = _increasing(wanted, weights)
      y |= {n: s + offsets[n] for n, s in zip(column, shifts)}
  return y


def _increasing(
  values: Sequence[float], weights: Sequence[float]
) -> list[float]:
  """The nearest values, in squares, of which none is below the one before."""
  pools: list[tuple[float, float, int]] = []
  for value, weight in zip(values, weights):
    pool = (value * weight, weight, 1)
    while pools and pools[-1][0] / pools[-1][1] > pool[0] / pool[1]:
      one, other = pools.pop(), pool
      pool = (one[0] + other[0], one[1] + other[1], one[2] + other[2])
    pools.append(pool)
  return [total / weight for total, weight, n in pools for _ in range(n)]
