"""The networks to measure of a space: blocks, drawn and published ones."""

from __future__ import annotations

import dataclasses

import numpy as np

from proxyless_jax.space import Edge, Network, Op, Zero
from proxyless_jax.space.zoo import NETWORKS, zoo

# Repeated draws in a row after which drawing gives up.
MOST_REPEATS = 10_000
# Follows the name of a published network that is not in the space as it is.
TAKEN_OVER = "(its operations in this space)"


def block_of(edge: Edge, op: Op) -> Edge:
  """The key of equal blocks: an edge of one operation, without its name."""
  return dataclasses.replace(edge, name="block", ops=(op,))


def blocks_of(space: Network) -> list[Edge]:
  """The different blocks of a space's searched edges, 'zero' aside."""
  blocks = {
    block_of(edge, op): None
    for edge in space.edges
    for op in edge.ops
    if not isinstance(op, Zero)
  }
  return list(blocks)


def draw_networks(
  space: Network, count: int, seed: int, without: tuple[Network, ...] = ()
) -> list[Network]:
  """Draws different architectures that cover a space's range of costs.

  Uniform draws of many edges all cost about the same. So each network has a
  mixture of candidates of its own, drawn uniformly from all mixtures, and draws
  its edges from it.

  Args:
    space: space with two or more candidates on some edges.
    count: number of networks.
    seed: seed of the draws.
    without: architectures to leave out.

  Raises:
    ValueError: the space has too few architectures.
  """
  rng = np.random.default_rng(seed)
  names = sorted({op.name for edge in space.edges for op in edge.ops})
  drawn: dict[Network, None] = {}
  repeats = 0
  while len(drawn) < count:
    mixture = dict(zip(names, rng.dirichlet(np.ones(len(names)))))
    network = space.choose([_draw(rng, mixture, edge) for edge in space.edges])
    if network in drawn or network in without:
      repeats += 1
      if repeats > MOST_REPEATS:
        raise ValueError(
          f"the space has about {10**space.log10_size:.0f} architectures: "
          f"expected {count + len(without)} or more, for calibration, held_out "
          "and published networks: set fewer of the first two"
        )
      continue
    drawn[network], repeats = None, 0
  return list(drawn)


def _draw(
  rng: np.random.Generator, mixture: dict[str, float], edge: Edge
) -> int:
  weights = np.array([mixture[op.name] for op in edge.ops])
  return int(rng.choice(len(edge.ops), p=weights / weights.sum()))


def is_of(network: Network, space: Network) -> bool:
  """Whether an architecture is one of a space's, edge names included."""
  if type(network) is not type(space) or len(network.edges) != len(space.edges):
    return False
  names = [edge.op.name for edge in network.edges]
  return _has(space, names) and space.choose(names) == network


def _has(space: Network, names: list[str]) -> bool:
  """Whether a space has these operations, one for each edge."""
  return len(names) == len(space.edges) and all(
    name in [op.name for op in edge.ops]
    for name, edge in zip(names, space.edges)
  )


def published_in(space: Network) -> dict[str, Network]:
  """Published networks as architectures of a space, by name.

  A network of the space keeps its name. Of the others, those whose searched
  operations are in the space are taken with the space's own widths and classes,
  and named accordingly: edge by edge where there are equally many, otherwise
  stage by stage, with 'zero' for the missing blocks of a stage. So MobileNetV2
  (2, 3, 4, 3, 3, 1 blocks per stage) is in a space of 4, 4, 4, 4, 4, 1. The
  first one of equal networks is kept.
  """
  found: dict[Network, str] = {}
  sources = {name: _in_shape_of(name, space) for name in NETWORKS}
  for name, network in sources.items():
    if is_of(network, space):
      found.setdefault(network, name)
  for name, network in sources.items():
    names = _choices(network, space)
    if names is not None:
      found.setdefault(space.choose(names), f"{name} {TAKEN_OVER}")
  return {name: network for network, name in found.items()}


def _in_shape_of(name: str, space: Network) -> Network:
  """A published network for the space's images, where they are large enough."""
  shape = ("image_size", "channels", "classes")
  try:
    return zoo(name, **{field: getattr(space, field) for field in shape})
  except ValueError:
    return zoo(name)


def _choices(network: Network, space: Network) -> list[str] | None:
  """A network's operations, for each edge of a space; None: they do not fit."""
  if type(network) is not type(space) or not network.is_architecture:
    return None
  names = [edge.op.name for edge in network.edges]
  if len(names) != len(space.edges):
    own, wide = _stages(network), _stages(space)
    if len(own) != len(wide):
      return None
    names = []
    for few, many in zip(own, wide):
      if len(few) > len(many):
        return None
      names += [edge.op.name for edge in few]
      names += [Zero.name] * (len(many) - len(few))
  return names if _has(space, names) else None


def _stages(network: Network) -> list[list[Edge]]:
  """The searched edges, cut where size or width change."""
  stages: list[list[Edge]] = []
  for edge in network.edges:
    if not (edge.shortcut and stages):
      stages.append([])
    stages[-1].append(edge)
  return stages
