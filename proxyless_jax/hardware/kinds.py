"""The cost table of a space, by the name of its kind or from a file."""

from __future__ import annotations

import os

import jax.numpy as jnp

from proxyless_jax.hardware.cost import CostTable, fixed_layers, make_table
from proxyless_jax.hardware.files import ENDINGS, load_table
from proxyless_jax.hardware.memory import CHAIN, beside, peak_elements
from proxyless_jax.hardware.pixel1 import pixel1_table
from proxyless_jax.space import Edge, Network, Op
from proxyless_jax.space.networks.network import check_network
from proxyless_jax.space.suggest import did_you_mean, nearest

# Parameters are float32, whatever the activations are.
COUNTS = {
  "macs": ("MACs", lambda op, edge: op.macs(edge)),
  "parameters": ("parameters", lambda op, edge: op.parameters(edge)),
  "weight_bytes": ("bytes", lambda op, edge: 4 * op.parameters(edge)),
}
KINDS = (*COUNTS, "memory", "memory:{dtype}", "pixel1")


def cost_table(kind: str | os.PathLike, space: Network) -> CostTable:
  """The table of a space.

  Args:
    kind: 'macs'; 'parameters'; 'weight_bytes', in float32; 'memory', the peak
      of the activations of one image in float32, or, as 'memory:bfloat16', in
      another type; 'pixel1', the phone's latency; or the path of a table's
      file, JSON or CSV.
    space: a space or an architecture.

  Raises:
    ValueError: an unknown kind, or a table that does not cover the space.
  """
  _check_arguments(kind, space)
  kind = os.fspath(kind)
  if kind in COUNTS:
    return _counted(kind, space)
  if kind == "pixel1":
    return pixel1_table(space)
  if kind == "memory":
    return _memory("float32", space)
  if kind.startswith("memory:"):
    return _memory(kind.removeprefix("memory:"), space)
  if kind.endswith(ENDINGS):
    if not os.path.exists(os.path.expanduser(kind)):
      raise ValueError(
        f"kind = {kind!r}: there is no such file: {_nearby(kind)}"
      )
    return load_table(kind, space)
  raise ValueError(
    f"kind = {kind!r}: expected one of {', '.join(KINDS)}, or the path of a "
    f"table that ends in {' or '.join(ENDINGS)}{did_you_mean(kind, KINDS)}"
  )


def _check_arguments(kind: object, space: object) -> None:
  if isinstance(kind, Network) and not isinstance(space, Network):
    raise ValueError(
      f"kind is a {type(kind).__name__} and space is {space!r}: expected "
      "cost_table(kind, space): swap them"
    )
  if not isinstance(kind, str | os.PathLike):
    raise ValueError(
      f"kind is of type {type(kind).__name__}: expected one of "
      f"{', '.join(KINDS)}, or the path of a table"
    )
  check_network("space", space)


def _nearby(path: str) -> str:
  """The end of an error: a file of a similar name beside a path."""
  folder = os.path.dirname(path) or "."
  names = os.listdir(folder) if os.path.isdir(folder) else []
  names = sorted(name for name in names if name.endswith(ENDINGS))
  meant = nearest(os.path.basename(path), names)
  if meant:
    return f"did you mean {os.path.join(os.path.dirname(path), meant)!r}?"
  return "job 'measure' writes a table.json into its workdir"


def _counted(kind: str, space: Network) -> CostTable:
  unit, count = COUNTS[kind]
  fixed = sum(count(edge.op, edge) for edge in fixed_layers(space))
  return make_table(space, count, fixed=fixed, unit=unit, source="counted")


def _memory(dtype: str, space: Network) -> CostTable:
  size = _bytes_of(dtype)

  around = beside(space)

  def peak(op: Op, edge: Edge) -> int:
    others = around.get(edge.name, CHAIN)
    return size * peak_elements(op, edge, others)

  fixed = max((peak(edge.op, edge) for edge in fixed_layers(space)), default=0)
  return make_table(
    space,
    peak,
    fixed=fixed,
    unit="bytes",
    source=f"counted, {dtype}",
    combine="max",
  )


def _bytes_of(dtype: str) -> int:
  """Bytes of one number of a type, by its name."""
  try:
    found = jnp.dtype(dtype)
    if dtype and jnp.issubdtype(found, jnp.number):
      return found.itemsize
  except (TypeError, ValueError, SyntaxError):
    pass
  raise ValueError(
    f"kind = 'memory:{dtype}': expected a type of numbers, such as "
    "memory:bfloat16"
  )
