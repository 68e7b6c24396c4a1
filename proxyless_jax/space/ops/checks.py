"""Checks that operations share: of their fields, and of the edges they fit."""

from __future__ import annotations

from proxyless_jax.space.edge import Edge, Op

ACTIVATIONS = ("relu6", "relu", "linear")


def check_epsilon(value: float) -> None:
  """Raises a ValueError for an epsilon that no batch norm can have."""
  if type(value) is not float or not 0.0 < value < 1.0:
    raise ValueError(
      f"epsilon = {value!r}: expected a float between 0 and 1, such as 1e-5"
    )


def check_activation(value: str) -> None:
  """Raises a ValueError for an unknown activation."""
  if value not in ACTIVATIONS:
    raise ValueError(f"activation = {value!r}: expected one of {ACTIVATIONS}")


def check_same_width(op: Op, edge: Edge) -> None:
  """Raises a ValueError where an operation cannot change the width."""
  if edge.features_in != edge.features_out:
    raise ValueError(
      f"edge {edge.name!r}: {op.name!r} keeps the width: expected features_out "
      f"= features_in = {edge.features_in}, got {edge.features_out}"
    )


def check_same_size(op: Op, edge: Edge) -> None:
  """Raises a ValueError where an operation cannot change the size."""
  if edge.stride != 1:
    raise ValueError(
      f"edge {edge.name!r}: {op.name!r} keeps the size: expected stride 1, "
      f"got {edge.stride}"
    )


def check_own_shortcut(op: Op, edge: Edge) -> None:
  """Raises a ValueError for a shortcut around an operation that has its own."""
  if edge.shortcut:
    raise ValueError(
      f"edge {edge.name!r}: {op.name!r} has a shortcut of its own: expected "
      "shortcut = false"
    )


def check_pads_shortcut(op: Op, edge: Edge, multiple: int) -> None:
  """Raises a ValueError where a shortcut padded with zeros does not fit.

  Args:
    op: operation whose own shortcut has zeros for the channels that it lacks.
    edge: edge of the operation.
    multiple: number that must divide the output's width.
  """
  width = edge.features_out
  if width < edge.features_in or width % multiple:
    raise ValueError(
      f"edge {edge.name!r}: {op.name!r} pads its shortcut with zeros: "
      f"expected features_out >= features_in = {edge.features_in} and a "
      f"multiple of {multiple}, got {width}"
    )
