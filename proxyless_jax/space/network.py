"""Edge and Network: one static description of spaces and architectures.

A search space is a `Network` whose edges have several candidates; an
architecture is a `Network` whose edges have one. Deriving is `choose`.
Everything here is hashable and made of ints, strings and tuples, so a network
can be a static argument of a jitted function and a key of a cache.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import operator
import os
from collections.abc import Iterable, Sequence

from proxyless_jax.space.ops import Op, parse_op

VERSION = 1
PARTS = ("before", "edges", "after")


@dataclasses.dataclass(frozen=True)
class Edge:
  """One place of a network, and the operations that it may be.

  Attributes:
    name: unique within its network; names the edge's parameters too.
    ops: the candidates, in the order of the architecture parameters.
    features_in, features_out: channels.
    stride: of the spatial dimensions.
    size: height and width of the input, in pixels.
    shortcut: whether the input is added to the output.
  """

  name: str
  ops: tuple[Op, ...]
  features_in: int
  features_out: int
  stride: int
  size: int
  shortcut: bool = False

  def __post_init__(self):
    named = isinstance(self.name, str) and self.name
    _expect(named, "edge name", self.name, "a text")
    where = f"edge {self.name!r}: "
    for field in ("features_in", "features_out", "stride", "size"):
      value = getattr(self, field)
      # Not isinstance: a bool is an int to Python, and NumPy's are not JSON's.
      positive = type(value) is int and value > 0
      _expect(positive, where + field, value, "a positive integer")
    boolean = type(self.shortcut) is bool
    _expect(boolean, where + "shortcut", self.shortcut, "true or false")
    _check_tuple(where + "ops", self.ops, Op)
    self._check_fit()

  def _check_fit(self):
    if self.stride > self.size:
      raise ValueError(
        f"edge {self.name!r}: stride {self.stride} does not fit its input of "
        f"{self.size}x{self.size}: use a larger image or fewer strides of 2"
      )
    if self.shortcut and not self.keeps_shape:
      raise ValueError(
        f"edge {self.name!r}: a shortcut needs stride 1 and equal widths, "
        f"got stride {self.stride}, {self.features_in} -> {self.features_out}"
      )
    names = [op.name for op in self.ops]
    different = names and len(set(names)) == len(names)
    where = f"edge {self.name!r}: ops"
    _expect(different, where, names, "one or more different operations")
    for op in self.ops:
      op.check(self)

  @property
  def keeps_shape(self) -> bool:
    return self.stride == 1 and self.features_in == self.features_out

  @property
  def size_out(self) -> int:
    """Height and width of the output: padding is kernel // 2 on each side."""
    return -(-self.size // self.stride)

  @property
  def op(self) -> Op:
    """The operation of an edge that has only one.

    Raises:
      ValueError: the edge still has several candidates.
    """
    if len(self.ops) > 1:
      raise ValueError(
        f"edge {self.name!r} has {len(self.ops)} candidates: choose one first "
        "(`space.choose`)"
      )
    return self.ops[0]

  def index(self, choice: str | int) -> int:
    """The position of a candidate given by its name or its position."""
    names = [op.name for op in self.ops]
    if isinstance(choice, str) and choice in names:
      return names.index(choice)
    # A bool is an int to Python, but nobody means candidate True.
    if not isinstance(choice, bool):
      with contextlib.suppress(TypeError):  # neither a name nor an integer
        index = operator.index(choice)
        if 0 <= index < len(names):
          return index
    raise ValueError(
      f"edge {self.name!r}: no candidate {choice!r}: expected one of {names}, "
      f"or an index from 0 to {len(names) - 1}"
    )


@dataclasses.dataclass(frozen=True)
class Network:
  """A chain of edges: fixed ones, searched ones, fixed ones.

  Attributes:
    before: edges with one operation each, such as the stem.
    edges: the searched edges; `choose` takes one choice for each.
    after: edges with one operation each, such as head and classifier.
  """

  before: tuple[Edge, ...]
  edges: tuple[Edge, ...]
  after: tuple[Edge, ...]

  family = "mobile"

  def __post_init__(self):
    for part in PARTS:
      _check_tuple(part, getattr(self, part), Edge)
    names = [edge.name for edge in self.layers]
    different = names and len(set(names)) == len(names)
    _expect(different, "edge names", names, "one or more different names")
    for edge in (*self.before, *self.after):
      _ = edge.op
    for one, next_ in zip(self.layers, self.layers[1:]):
      for field, out in (
        ("features_in", one.features_out),
        ("size", one.size_out),
      ):
        if getattr(next_, field) != out:
          raise ValueError(
            f"edge {next_.name!r}: {field} = {getattr(next_, field)}: "
            f"expected {out}, what edge {one.name!r} gives"
          )

  @property
  def layers(self) -> tuple[Edge, ...]:
    """All edges in the order in which they run, fixed and searched."""
    return (*self.before, *self.edges, *self.after)

  @property
  def image_size(self) -> int:
    return self.layers[0].size

  @property
  def channels(self) -> int:
    return self.layers[0].features_in

  @property
  def classes(self) -> int:
    return self.layers[-1].features_out

  @property
  def is_architecture(self) -> bool:
    """Whether every edge has one candidate."""
    return all(len(edge.ops) == 1 for edge in self.edges)

  @property
  def log10_size(self) -> float:
    """log10 of the number of architectures in the space."""
    return sum(math.log10(len(edge.ops)) for edge in self.edges)

  def choose(self, choices: Sequence[str | int]) -> Network:
    """The architecture with the given candidate on each searched edge.

    Args:
      choices: one name or one index per edge of `edges`, in order.

    Raises:
      ValueError: a wrong number of choices, or a choice that an edge lacks.
    """
    if len(choices) != len(self.edges):
      raise ValueError(
        f"choices has {len(choices)} entries: expected {len(self.edges)}, one "
        "per searched edge"
      )
    chosen = tuple(
      dataclasses.replace(edge, ops=(edge.ops[edge.index(choice)],))
      for edge, choice in zip(self.edges, choices)
    )
    return dataclasses.replace(self, edges=chosen)

  def to_json(self, path: str | os.PathLike | None = None) -> str:
    """The description as JSON text, also written to `path` where given."""
    parts = {
      part: [_edge_to_dict(edge) for edge in getattr(self, part)]
      for part in PARTS
    }
    header = {"version": VERSION, "family": self.family}
    text = json.dumps({**header, **parts}, indent=1)
    if path is not None:
      with open(path, "w", encoding="utf-8") as file:
        file.write(text + "\n")
    return text


def parameters(network: Network) -> int:
  """Trainable parameters of an architecture."""
  return sum(edge.op.parameters(edge) for edge in network.layers)


def macs(network: Network) -> int:
  """Multiply-accumulates of an architecture for one example."""
  return sum(edge.op.macs(edge) for edge in network.layers)


def load_network(path: str | os.PathLike, ops: Iterable[Op] = ()) -> Network:
  """Reads a network that `Network.to_json` wrote.

  Args:
    path: of the JSON file.
    ops: operations of your own that the file may name.

  Raises:
    ValueError: not such a file; the message names the field.
  """
  with open(path, encoding="utf-8") as file:
    try:
      return network_from_json(file.read(), ops)
    except ValueError as error:
      raise ValueError(f"{os.fspath(path)}: {error}") from error


def network_from_json(text: str, ops: Iterable[Op] = ()) -> Network:
  """The network that a JSON text describes: see `load_network`."""
  try:
    data = json.loads(text)
  except json.JSONDecodeError as error:
    raise ValueError(f"not the JSON text of a network: {error}") from error
  fields = ["version", "family", *PARTS]
  _expect(isinstance(data, dict), "network", data, f"the fields {fields}")
  for field, value in (("version", VERSION), ("family", Network.family)):
    found = data.get(field)
    _expect(found == value, field, found, f"{value!r} for this release")
  _check_keys("network", data, fields)
  ops = tuple(ops)
  parts = {}
  for part in PARTS:
    _expect(isinstance(data[part], list), part, data[part], "a list of edges")
    parts[part] = tuple(
      _edge_from_dict(f"{part}[{i}]", edge, ops)
      for i, edge in enumerate(data[part])
    )
  return Network(**parts)


def _edge_to_dict(edge: Edge) -> dict:
  fields = {f.name: getattr(edge, f.name) for f in dataclasses.fields(edge)}
  return {**fields, "ops": [op.name for op in edge.ops]}


def _edge_from_dict(where: str, data: object, ops: tuple[Op, ...]) -> Edge:
  _check_keys(where, data, [f.name for f in dataclasses.fields(Edge)])
  names = data["ops"]
  _expect(isinstance(names, list), f"{where}.ops", names, "a list of names")
  try:
    candidates = tuple(parse_op(name, ops) for name in names)
    return Edge(**{**data, "ops": candidates})
  except ValueError as error:
    raise ValueError(f"{where}: {error}") from error


def _check_keys(where: str, data: object, expected: list[str]) -> None:
  _expect(isinstance(data, dict), where, data, f"the fields {expected}")
  missing = [key for key in expected if key not in data]
  unknown = sorted(data.keys() - set(expected))
  if missing or unknown:
    raise ValueError(
      f"{where}: missing fields {missing}, unknown {unknown}: expected "
      f"{expected}"
    )


def _check_tuple(field: str, value: object, kind: type) -> None:
  # A list would make the network unhashable, which shows only under jit.
  fits = isinstance(value, tuple) and all(isinstance(v, kind) for v in value)
  _expect(fits, field, value, f"a tuple of {kind.__name__}")


def _expect(fits: object, field: str, value: object, expected: str) -> None:
  if not fits:
    raise ValueError(f"{field} = {value!r}: expected {expected}")
