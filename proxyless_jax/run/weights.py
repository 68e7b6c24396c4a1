"""The weights in the file of a config: to evaluate, or to start from."""

from __future__ import annotations

import os

import jax

from proxyless_jax.exchange import from_torch, read_torch
from proxyless_jax.exchange.fine_tuning import describe, unlike
from proxyless_jax.space import Network


def load_weights(
  weights: str,
  network: Network,
  *,
  key: jax.Array | None = None,
  freeze: bool = False,
) -> dict | None:
  """The variables in a file of PyTorch weights.

  A training may start from weights for other classes or input channels, with a
  fresh classifier or stem; an evaluation may not.

  Args:
    weights: 'FILE' or 'FILE#PART', as `config.weights`; '' for none.
    network: architecture that the weights are for.
    key: PRNG key for fresh edges, to start a training; None to evaluate.
    freeze: whether only the classifier is trained, so that no other edge may be
      fresh.

  Returns:
    Variables of the network; None without a file.

  Raises:
    ValueError: there is no such file, or its weights do not fit the network.
  """
  if not weights:
    return None
  remedy = ""
  try:
    state_dict = read_torch(*_file_and_part(weights))
    fresh = unlike(network, state_dict)
    if key is None and fresh:
      remedy = (
        "; to evaluate what was trained from them in the workdir, leave "
        "config.weights empty"
      )
    if freeze and key is not None and network.layers[0].name in fresh:
      raise ValueError(
        f"they are for images of other channels: {describe(fresh)}: expected "
        "the same with train.freeze = True, which trains the classifier only: "
        "set data.channels, or train.freeze = False"
      )
    return from_torch(network, state_dict, key=key)
  except ValueError as error:
    raise ValueError(f"weights = {weights!r}: {error}{remedy}") from error


def _file_and_part(weights: str) -> tuple[str, str]:
  """The parts of 'FILE#PART'; a file with # in its own name is taken whole."""
  path, mark, part = weights.rpartition("#")
  if not mark or os.path.exists(os.path.expanduser(weights)):
    return weights, ""
  return path, part
