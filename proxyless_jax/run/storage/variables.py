"""variables.npz: the variables that a job has evaluated, and their network.

One file with an array for each leaf, float32 as they were evaluated, named
`params/EDGE/OPERATION/...` as big_vision and the published ViT weights name
theirs; and `about`, JSON text with the network, the scores of the evaluation
and the path of each array. It has what an evaluation needs and no more: a
checkpoint of a training holds the raw weights, their average and the optimizer,
three times as much.

Why NumPy's format: every run writes this file, so it should need nothing that
a run does not need anyway; NumPy reads it in one line anywhere, without pickle;
and its zip has a CRC-32 for each array, so that damage is noticed. safetensors
would be one more package for every run and has no checksums (it belongs to
exports, where other programs want it); Orbax writes a folder of a dozen files,
made for states that are spread over hosts.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import numpy as np

from proxyless_jax.run.storage.snapshot import to_host
from proxyless_jax.run.storage.whole import whole_file
from proxyless_jax.space import Network

FILE = "variables.npz"
ABOUT, VERSION = "about", 1
# How the message of an error about the file ends.
REMEDY = "run the same command again, which evaluates again and writes it"

Path = tuple[str, ...]


class Kept(NamedTuple):
  """What is in the file.

  Attributes:
    network: JSON of the network, as dicts and lists.
    scores: loss, accuracies and number of images of the evaluation.
    variables: {'params', 'batch_stats'} of the network.
  """

  network: dict[str, Any]
  scores: dict[str, float]
  variables: dict


def on_host(variables: Mapping) -> dict[Path, np.ndarray]:
  """Variables as whole arrays by path. All hosts call it: it exchanges data."""
  leaves = flax.traverse_util.flatten_dict(dict(variables))
  named = {"/".join(path): leaf for path, leaf in leaves.items()}
  # It leaves out arrays without elements.
  found = to_host(named)
  arrays = {
    name: found.get(name, np.zeros(leaf.shape, leaf.dtype))
    for name, leaf in named.items()
  }
  return dict(zip(leaves, map(_storable, arrays.values())))


def _storable(array: np.ndarray) -> np.ndarray:
  """In float32 if it is in one of the short floats that NumPy cannot store."""
  return array.astype(np.float32) if array.dtype.kind == "V" else array


def keep_variables(
  workdir: str | os.PathLike,
  network: Network,
  arrays: Mapping[Path, np.ndarray],
  scores: Mapping[str, float],
) -> None:
  """Writes variables.npz; of several hosts, one calls.

  Args:
    workdir: folder of the run.
    network: architecture that was evaluated.
    arrays: its variables, as `on_host` gives them.
    scores: loss, accuracies and number of images of the evaluation.
  """
  about = {
    "version": VERSION,
    "network": json.loads(network.to_json()),
    "scores": dict(scores),
    "paths": [list(path) for path in arrays],
  }
  text = np.frombuffer(json.dumps(about).encode(), np.uint8)
  contents: dict[str, Any] = {ABOUT: text}
  contents |= {"/".join(path): array for path, array in arrays.items()}
  with whole_file(os.path.join(workdir, FILE), "wb") as file:
    np.savez(file, **contents)


def kept_variables(workdir: str | os.PathLike) -> Kept | None:
  """What variables.npz holds; None where there is no such file.

  Raises:
    ValueError: it is damaged, or of another release.
  """
  path = os.path.join(workdir, FILE)
  try:
    with np.load(path, allow_pickle=False) as file:
      about = json.loads(bytes(file[ABOUT]))
      if about["version"] != VERSION:
        raise ValueError(f"version {about['version']}, not {VERSION}")
      arrays = {tuple(p): file["/".join(p)] for p in about["paths"]}
  except FileNotFoundError:
    return None
  except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as e:
    reason = " ".join(str(e).split())
    raise ValueError(
      f"{path}: expected the variables that a run has evaluated, but the file "
      f"cannot be read ({reason}): {REMEDY}"
    ) from e
  nested = flax.traverse_util.unflatten_dict(arrays)
  variables = {"params": {}, "batch_stats": {}, **nested}
  # Copies: what is donated to a step must not be memory of NumPy.
  variables = jax.device_put(variables, may_alias=False)
  return Kept(about["network"], about["scores"], variables)
