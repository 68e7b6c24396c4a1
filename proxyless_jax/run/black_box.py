"""Black-box costs: Python functions of a network, called once for each network.

Their results are kept in `calls.jsonl` of the workdir.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from proxyless_jax.run.config.sections import CostOptions
from proxyless_jax.run.hosts import hosts
from proxyless_jax.space import Network

CALLS = "calls.jsonl"
# The first bytes of a line of the file.
BEGINNING = b'{"cost": '


class Calls:
  """The black-box costs of a search.

  Results are kept in a file of the workdir, so that a resumed search sees the
  values that it saw before, even where a measurement would give another. Of
  several hosts, the first calls the functions and keeps the results; all hosts
  see the same values.
  """

  def __init__(
    self,
    space: Network,
    options: Mapping[str, CostOptions],
    workdir: str | os.PathLike,
  ):
    """Touches no file.

    Args:
      space: space whose architectures are asked for.
      options: options of all costs by name; those with a table are ignored.
      workdir: folder of the run.
    """
    self._space = space
    self._functions: dict[str, Callable[[Network], float]] = {
      name: cost.kind for name, cost in options.items() if callable(cost.kind)
    }
    self._path = os.path.join(workdir, CALLS)
    self._known: dict[tuple, float] | None = None

  def __call__(self, paths: np.ndarray) -> dict[str, np.ndarray]:
    """The costs of architectures.

    Args:
      paths: i32[n, e], the candidate of each edge.

    Returns:
      f32[n] by name of the cost; nothing without black-box costs.
    """
    if not self._functions:
      return {}
    networks = [self._space.choose(path) for path in np.asarray(paths).tolist()]
    return {
      name: np.array([self.of(name, n) for n in networks], np.float32)
      for name in self._functions
    }

  def of(self, name: str, network: Network) -> float:
    """The cost `name` of a network, from the file or from the function.

    Raises:
      ValueError: the function gave no positive number.
    """
    if self._known is None:
      known = hosts.on_first(lambda: [[*k, v] for k, v in self._read()])
      self._known = {(cost, tuple(ops)): v for cost, ops, v in known}
    ops = tuple(edge.op.name for edge in network.edges)
    if (name, ops) not in self._known:
      value = hosts.on_first(lambda: self._ask(name, network, ops))
      self._known[name, ops] = value
    return self._known[name, ops]

  def _ask(self, name: str, network: Network, ops: Sequence[str]) -> float:
    """Calls a function, and keeps its result."""
    answer = self._functions[name](network)
    value = _scalar(answer)
    if not 0.0 < value < math.inf:
      raise ValueError(
        f"search.costs.{name}.kind gave {answer!r} for the network {ops}: "
        "expected a positive number; let the function return one"
      )
    self._write(name, ops, value)
    return value

  def _read(self) -> Iterator[tuple[tuple, float]]:
    """The results in the file; a line that was cut off is removed."""
    if not os.path.exists(self._path):
      return
    with open(self._path, "rb+") as file:
      *lines, last = file.read().split(b"\n")
      for number, line in enumerate(lines, 1):
        yield self._call(number, line)
      if not last:
        return
      # A line that was being written when the run was stopped has no end.
      if last[: len(BEGINNING)] != BEGINNING[: len(last)]:
        self._refuse(len(lines) + 1, last)
      file.truncate(sum(len(line) + 1 for line in lines))

  def _call(self, number: int, line: bytes) -> tuple[tuple, float]:
    """The cost, the operations and the value of a line."""
    try:
      call = json.loads(line)
      key = call["cost"], tuple(call["network"])
      value = _scalar(call["value"])
      hash(key)
    except (ValueError, TypeError, KeyError):
      value = math.nan
    if not 0.0 < value < math.inf:
      self._refuse(number, line)
    return key, value

  def _refuse(self, number: int, line: bytes) -> NoReturn:
    text = line.decode(errors="replace")
    raise ValueError(
      f"{self._path} line {number}: {text[:80]!r}: expected a call such as "
      '{"cost": "energy", "network": ["zero"], "value": 1.5}; remove the line, '
      "or move the file away"
    )

  def _write(self, name: str, ops: Sequence[str], value: float) -> None:
    line = json.dumps({"cost": name, "network": ops, "value": value})
    with open(self._path, "a", encoding="utf-8") as file:
      file.write(f"{line}\n")


def _scalar(value: Any) -> float:
  """A number of any library as a float; NaN for anything else."""
  try:
    if isinstance(value, bool | str | bytes) or np.ndim(value):
      return math.nan
    return float(value)
  except (TypeError, ValueError, OverflowError):
    return math.nan
