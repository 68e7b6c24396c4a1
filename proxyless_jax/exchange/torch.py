"""State dicts of PyTorch, in the released layouts: to our variables and back.

Convolutions are out x in/groups x k x k there and k x k x in/groups x out
here; linear layers out x in there and in x out here. Nothing else differs, so
a round trip keeps every bit.

Nothing here needs PyTorch; reading and writing its files (`files.py`) does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from proxyless_jax.exchange import layouts
from proxyless_jax.exchange.containers import find_state_dict
from proxyless_jax.exchange.fine_tuning import describe, unlike
from proxyless_jax.nn import build, init
from proxyless_jax.space import Network

# Entries of each kind that a message lists.
LISTED = 10
# The axes of a released tensor in our order, by their number; and back.
TO_OURS = {4: (2, 3, 1, 0), 2: (1, 0)}
TO_THEIRS = {4: (3, 2, 0, 1), 2: (1, 0)}


def from_torch(
  network: Network,
  state_dict: Mapping[str, Any],
  *,
  part: str = "",
  key: jax.Array | None = None,
) -> dict:
  """Our variables from a PyTorch state dict.

  Args:
    network: an architecture: a released one, or any other of `mobile_space`
      or `tree_space`.
    state_dict: arrays by name (of NumPy, tensors, parameters, or anything else
      that `np.asarray` takes), such as `read_torch` returns; or a checkpoint
      with such a dict under a usual name. Prefixes of wrappers are dropped.
      Counters, such as `num_batches_tracked`, are ignored.
    part: name of the weights in a checkpoint, see `read_torch`.
    key: for fine-tuning: PRNG key of a fresh classifier, where that of the
      state dict is missing or for another number of classes, and of a fresh
      stem, where that is for other input channels; this is logged.
      None refuses such a state dict.

  Returns:
    {'params', 'batch_stats'} of `build(network)`, float32.

  Raises:
    ValueError: entries are missing, or have the wrong shape or type, or belong
      to another network, or are not finite: all are named.
  """
  _check_mapping("state_dict", state_dict)
  state_dict = find_state_dict("state_dict", state_dict, part)
  fresh = unlike(network, state_dict)
  entries = layouts.entries(network)
  taken = [e for e in entries if e.path and e.path[1] not in fresh]
  ignored = {e.name for e in entries} - {e.name for e in taken}
  _check_shapes(
    "state_dict",
    {entry.name: entry.shape for entry in taken},
    {n: np.shape(v) for n, v in state_dict.items() if n not in ignored},
  )
  if fresh and key is None:
    raise ValueError(
      f"state_dict is for another task: {describe(fresh)}: to fine-tune, with "
      "those fresh, pass `key`, or use job 'train'"
    )
  arrays = {e.name: _real(e.name, state_dict[e.name]) for e in taken}
  _check_finite(arrays)
  flat: dict[tuple[str, ...], np.ndarray | jax.Array] = {
    entry.path: np.ascontiguousarray(_transposed(arrays[entry.name], TO_OURS))
    for entry in taken
  }
  if fresh and key is not None:
    flat |= _fresh(network, fresh, key, len(flat))
  # Copies: what is donated to a step must not be memory of NumPy.
  variables = flax.traverse_util.unflatten_dict(flat)
  return jax.device_put(variables, may_alias=False)


def _fresh(
  network: Network, fresh: dict[str, str], key: jax.Array, taken: int
) -> dict[tuple[str, ...], jax.Array]:
  """Fresh arrays of some edges by path, which are logged."""
  own = flax.traverse_util.flatten_dict(init(build(network), key))
  added = {path: own[path] for path in own if path[1] in fresh}
  logging.warning(
    "fine-tuning: %d of %d tensors are taken from the state dict; fresh: %s",
    *(taken, taken + len(added), describe(fresh)),
  )
  return added


def to_torch(
  network: Network, variables: Mapping[str, Any]
) -> dict[str, np.ndarray]:
  """The PyTorch state dict of our variables.

  Args:
    network: an architecture, as for `from_torch`.
    variables: {'params', 'batch_stats'} of the network's module.

  Returns:
    Arrays by name: float32, and int64 zeros for the counters of batch norms.

  Raises:
    ValueError: `variables` are not those of the network: everything missing,
      extra or misshapen is named.
  """
  _check_mapping("variables", variables)
  entries = layouts.entries(network)
  flat = flax.traverse_util.flatten_dict(variables, sep="/")
  _check_shapes(
    "variables",
    {_key(e): _transposed_shape(e.shape) for e in entries if e.path},
    {name: np.shape(value) for name, value in flat.items()},
  )
  state_dict = {}
  for entry in entries:
    array = np.zeros((), np.int64)
    if entry.path:
      array = _real(_key(entry), flat[_key(entry)])
      array = np.ascontiguousarray(_transposed(array, TO_THEIRS))
    state_dict[entry.name] = array
  return state_dict


def as_array(name: str, value: Any) -> np.ndarray:
  """A NumPy array from anything that has numbers, such as a tensor.

  Args:
    name: name of the value, for errors.
    value: array, tensor, parameter or numbers.

  Raises:
    ValueError: the value has no such array: it is sparse, conjugated, not in
      main memory, or of a type that NumPy lacks.
  """
  try:
    # NumPy refuses tensors that require gradients, as parameters do, and has no
    # bfloat16: float32 represents all its values.
    if hasattr(value, "detach"):
      value = value.detach()
      is_bfloat16 = str(value.dtype) == "torch.bfloat16"
      value = value.float() if is_bfloat16 else value
    return np.asarray(value)
  except (TypeError, ValueError, RuntimeError) as error:
    raise ValueError(
      f"{name}: expected dense numbers in main memory, got a "
      f"{type(value).__name__} that NumPy cannot hold: {error}"
    ) from error


def _key(entry: layouts.Entry) -> str:
  return "/".join(entry.path)


def _transposed(array: np.ndarray, axes: dict) -> np.ndarray:
  return array.transpose(axes.get(array.ndim, range(array.ndim)))


def _transposed_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
  axes = TO_OURS.get(len(shape), range(len(shape)))
  return tuple(shape[axis] for axis in axes)


def _real(name: str, value: Any) -> np.ndarray:
  array = as_array(name, value)
  if not jnp.issubdtype(array.dtype, jnp.floating):
    raise ValueError(
      f"{name} is {array.dtype}: expected floating-point numbers"
    )
  with np.errstate(over="ignore"):  # Overflow gives infinity, refused later.
    return array.astype(np.float32)


def _check_mapping(what: str, value: object) -> None:
  if not isinstance(value, Mapping):
    raise ValueError(
      f"{what} is a {type(value).__name__}: expected a dict of arrays"
      + (": read a file by `read_torch`" if what == "state_dict" else "")
    )


def _check_shapes(what: str, expected: dict, given: dict) -> None:
  """Raises one ValueError for all names and shapes that differ."""
  kinds = {
    "missing": [f"{n} {list(expected[n])}" for n in _lacking(expected, given)],
    "extra": [f"{n} {list(given[n])}" for n in _lacking(given, expected)],
    "misshapen": [
      f"{n} {list(given[n])}, expected {list(shape)}"
      for n, shape in expected.items()
      if given.get(n, shape) != shape
    ],
  }
  wrong = [f"{kind}: {_listed(one)}" for kind, one in kinds.items() if one]
  if wrong:
    raise ValueError(
      f"{what} is of another network than this one, or damaged: "
      + "; ".join(wrong)
    )


def _check_finite(arrays: dict[str, np.ndarray]) -> None:
  wrong = [name for name, a in arrays.items() if not np.isfinite(a).all()]
  if wrong:
    raise ValueError(
      "state_dict: expected finite numbers, within float32, got others in "
      f"{_listed(wrong)}: damaged, or of a training that diverged"
    )


def _listed(found: list[str]) -> str:
  more = [f"and {len(found) - LISTED} more"] if found[LISTED:] else []
  return "; ".join(found[:LISTED] + more)


def _lacking(names: dict, among: dict) -> list[str]:
  return [name for name in names if name not in among]
