"""Weights of an architecture, from the banks of the space that it is of."""

from __future__ import annotations

from collections.abc import Mapping

import jax

from proxyless_jax.nn.supernet.bank import banks
from proxyless_jax.space import Network
from proxyless_jax.space.networks.network import check_network


def inherit(space: Network, variables: dict, network: Network) -> dict:
  """The variables of an architecture, picked from those of its space.

  Args:
    space: search space that `network` was chosen from.
    variables: {'params', 'batch_stats'} of the space's module.
    network: architecture, as `space.choose` gives.

  Returns:
    {'params', 'batch_stats'} of the architecture's module.

  Raises:
    ValueError: `network` is not of `space`, or `variables` are not the space's.
  """
  _check_chosen(space, network)
  space_banks = banks(space)
  for bank in space_banks:
    if not hasattr(_entry(variables, "params", bank.name), "shape"):
      raise ValueError(
        f"variables have no bank {bank.name!r}: expected those of the space's "
        "module, {'params', 'batch_stats'}"
      )
  names = {edge.name for edge in network.layers}
  ops = {edge.name: edge.op for edge in network.layers}
  picked = {}
  for collection, tree in variables.items():
    # Edges with one candidate have named trees in both.
    trees = {name: own for name, own in tree.items() if name in names}
    for bank in space_banks:
      trees.pop(bank.name, None)
      for row, edge in zip(tree[bank.name], bank.edges):
        op = ops[edge.name]
        candidate = row[bank.form.ops.index(op)]
        mine = bank.unpack(op, edge, collection, candidate)
        # Operations without variables have no entry, as in Linen.
        if jax.tree.leaves(mine):
          trees[edge.name] = {op.name: mine}
    picked[collection] = trees
  return picked


def _entry(variables, *names: str):
  """The value in nested dicts under some names; None where there is none."""
  for name in names:
    if not isinstance(variables, Mapping):
      return None
    variables = variables.get(name)
  return variables


def _check_chosen(space: Network, network: Network) -> None:
  check_network("space", space)
  check_network("network", network)
  alike = type(network) is type(space) and network.is_architecture
  alike = alike and len(network.edges) == len(space.edges)
  if not alike or space.with_edges(network.edges) != network:
    raise ValueError(
      "network is no architecture of the space: expected one that "
      "space.choose(choices) gave"
    )
  for edge, own in zip(network.edges, space.edges):
    own.index(edge.op.name)
