"""Fine-tuning: the edges that cannot take the weights of another task.

A network for other classes differs in its classifier; one for images of other
channels, in its stem. Everything else must be the same, or it is another
network.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from proxyless_jax.exchange.layouts import Entry, entries
from proxyless_jax.space import Edge, Network, Norm


def unlike(network: Network, state_dict: Mapping[str, Any]) -> dict[str, str]:
  """The edges whose weights are for other classes or input channels.

  Args:
    network: an architecture with a released layout.
    state_dict: arrays by name, without prefixes.

  Returns:
    What differs, by the names of edges; empty where nothing does, or where
    another task does not explain it.
  """
  found = {}
  stem, classifier = network.layers[0], network.layers[-1]
  tensors: dict[str, list[Entry]] = {stem.name: [], classifier.name: []}
  for entry in entries(network):
    if entry.path and entry.path[1] in tensors:
      tensors[entry.path[1]].append(entry)
  kernel = tensors[stem.name][0]
  channels = _others(kernel, 1, state_dict)
  if channels:
    why = f"{channels} channels there, {network.channels} here"
    found[stem.name] = why
    # A norm that stands by itself: its statistics are of the stem's output.
    norms = itertools.takewhile(_is_norm, network.layers[1:])
    found |= {edge.name: "of that stem" for edge in norms}
  own = tensors[classifier.name]
  classes = {_others(entry, 0, state_dict) for entry in own}
  if not any(entry.name in state_dict for entry in own):
    found[classifier.name] = "none there"
  elif len(classes) == 1 and classes != {None}:
    why = f"{classes.pop()} classes there, {network.classes} here"
    found[classifier.name] = why
  return found


def _is_norm(edge: Edge) -> bool:
  return isinstance(edge.op, Norm)


def describe(found: Mapping[str, str]) -> str:
  """The result of `unlike` as text for a message."""
  return ", ".join(f"{name} ({why})" for name, why in found.items())


def _others(
  entry: Entry, axis: int, state_dict: Mapping[str, Any]
) -> int | None:
  """The length of an axis, where an entry's shape differs in that alone."""
  shape = np.shape(state_dict.get(entry.name, 0.0))
  same = len(shape) == len(entry.shape) and all(
    mine == theirs
    for i, (mine, theirs) in enumerate(zip(entry.shape, shape))
    if i != axis
  )
  return shape[axis] if same and shape != entry.shape else None
