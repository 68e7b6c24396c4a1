"""safetensors: a network's variables as named arrays, its JSON beside them.

The metadata of the file has 'network', the JSON of the architecture, and texts
of whoever writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import numpy as np

from proxyless_jax.space import Network

NETWORK = "network"


class Contents(NamedTuple):
  """What a .safetensors file of a network has.

  Attributes:
    network: JSON of the architecture, as dicts and lists.
    variables: {'params', 'batch_stats'} of its module.
    metadata: the texts that were written beside it, by name.
  """

  network: dict[str, Any]
  variables: dict
  metadata: dict[str, str]


def to_safetensors(
  network: Network,
  variables: Mapping[str, Any],
  metadata: Mapping[str, str] | None = None,
) -> bytes:
  """The contents of a .safetensors file.

  Its arrays have names such as 'params/stem/conv_k3/conv/kernel'.

  Args:
    network: an architecture.
    variables: {'params', 'batch_stats'} of the network's module.
    metadata: further texts by name; 'network' is the JSON of the architecture.

  Raises:
    ImportError: the extra `export` is not installed.
  """
  library = _import_safetensors()
  flat = flax.traverse_util.flatten_dict(dict(variables), sep="/")
  arrays = {n: np.ascontiguousarray(a) for n, a in flat.items()}
  texts = {**(metadata or {}), NETWORK: network.to_json()}
  return library.save(arrays, metadata=texts)


def from_safetensors(data: bytes) -> Contents:
  """What the bytes of a .safetensors file of a network have.

  Args:
    data: contents of the file, as `to_safetensors` gives them.

  Raises:
    ImportError: the extra `export` is not installed.
    ValueError: the file is damaged, or has no network.
  """
  library = _import_safetensors()
  try:
    arrays = library.load(data)
    # The header: its length in 8 bytes, then JSON.
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    network = json.loads(metadata.pop(NETWORK))
  except Exception as error:  # The library raises a type of its own.
    raise ValueError(
      "expected a .safetensors file with a network in its metadata, as "
      f"pj.export writes it, but it cannot be read ({error!r})"
    ) from error
  variables = flax.traverse_util.unflatten_dict(arrays, sep="/")
  variables = {"params": {}, "batch_stats": {}, **variables}
  # Copies: what is donated to a step must not be memory of NumPy.
  variables = jax.device_put(variables, may_alias=False)
  return Contents(network, variables, metadata)


def _import_safetensors() -> Any:
  try:
    import safetensors.numpy
  except ImportError as error:
    raise ImportError(
      ".safetensors files need the package safetensors: install "
      "proxyless-jax[export]"
    ) from error
  return safetensors.numpy
