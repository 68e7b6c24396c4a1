"""The weights in the file of a config: to evaluate, or to start from."""

from __future__ import annotations

import os

from proxyless_jax.exchange import from_torch, read_torch
from proxyless_jax.exchange.fine_tuning import describe, unlike
from proxyless_jax.run.config.options import Options
from proxyless_jax.run.train_stage import train_keys
from proxyless_jax.space import Network


def load_weights(options: Options, network: Network) -> dict | None:
  """The variables in the file of `config.weights`; None where it names none.

  A training may start from weights for other classes or input channels, with a
  fresh classifier or stem; an evaluation may not.

  Raises:
    ValueError: there is no such file, or its weights do not fit the network.
  """
  if not options.weights:
    return None
  evaluates, remedy = options.job == "evaluate", ""
  try:
    state_dict = read_torch(*_file_and_part(options.weights))
    fresh = unlike(network, state_dict)
    if fresh and evaluates:
      remedy = (
        "; to evaluate what was trained from them in the workdir, leave "
        "config.weights empty"
      )
    if (
      options.train.freeze and not evaluates and network.layers[0].name in fresh
    ):
      raise ValueError(
        f"they are for images of other channels: {describe(fresh)}: expected "
        "the same with train.freeze = True, as all but the classifier stays: "
        "set data.channels, or train.freeze = False"
      )
    key = None if evaluates else train_keys(options)[0]
    return from_torch(network, state_dict, key=key)
  except ValueError as error:
    raise ValueError(
      f"weights = {options.weights!r}: {error}{remedy}"
    ) from error


def _file_and_part(weights: str) -> tuple[str, str]:
  """Of 'FILE#PART'; a file whose own name has a # is taken whole."""
  path, mark, part = weights.rpartition("#")
  if not mark or os.path.exists(os.path.expanduser(weights)):
    return weights, ""
  return path, part
