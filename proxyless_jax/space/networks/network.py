"""Network: one static description of spaces and architectures.

A search space is a `Network` whose edges have several candidates; an
architecture is a `Network` whose edges have one. Deriving is `choose`.
Everything here is hashable and made of ints, strings and tuples, so a network
can be a static argument of a jitted function and a key of a cache.

A family of networks is a subclass that defines how its edges are connected,
such as `chain.Chain`.
"""

from __future__ import annotations

import abc
import dataclasses
import json
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Self

from proxyless_jax.space.checks import check_path, check_sequence, expect
from proxyless_jax.space.codec import to_plain
from proxyless_jax.space.edge import Edge, Size
from proxyless_jax.space.table import edge_table

VERSION = 1


class Network(abc.ABC):
  """The interface of all families of networks.

  A family is a frozen dataclass with fields of edges, in tuples or in frozen
  dataclasses of its own; JSON in both directions follows from that.

  Attributes:
    family: name of the family in JSON.
    edges: searched edges; `choose` takes one choice for each.
    bn_momentum: momentum of the running statistics of all batch norms, the
      share of them that a step keeps, unless `build` gets another one. It
      belongs to the network, since published files have one for all.
  """

  family: ClassVar[str]
  bn_momentum: float = 0.9

  if TYPE_CHECKING:
    # A field in some families and a property in others. Not defined here, since
    # `dataclasses` would take it for the default of the field.
    @property
    def edges(self) -> tuple[Edge, ...]: ...

  @property
  @abc.abstractmethod
  def layers(self) -> tuple[Edge, ...]:
    """All edges, fixed and searched, in the order in which they run.

    The first one reads the images, the last one gives the logits.
    """

  @abc.abstractmethod
  def with_edges(self, edges: tuple[Edge, ...]) -> Self:
    """The same network with other edges in place of the searched ones."""

  @property
  def image_size(self) -> Size:
    """Height and width of the images: one number where they are equal."""
    return self.layers[0].size

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(h, w, channels) of an image."""
    return self.layers[0].shape_in

  @property
  def channels(self) -> int:
    """Channels of the images."""
    return self.layers[0].features_in

  @property
  def classes(self) -> int:
    """Number of classes: the width of the logits."""
    return self.layers[-1].features_out

  @property
  def drops_paths(self) -> bool:
    """Whether the network has anything that drop path can drop."""
    return True

  @property
  def is_architecture(self) -> bool:
    """Whether every edge has one candidate."""
    return all(len(edge.ops) == 1 for edge in self.edges)

  @property
  def log10_size(self) -> float:
    """log10 of the number of architectures in the space."""
    return sum(math.log10(len(edge.ops)) for edge in self.edges)

  def choose(self, choices: Sequence[str | int]) -> Self:
    """The architecture with the given candidate on each searched edge.

    Args:
      choices: name or index of a candidate per edge of `edges`, in order.

    Raises:
      ValueError: a wrong number of choices, or an unknown candidate.
    """
    check_sequence("choices", choices, "names or indices, one per edge")
    if len(choices) != len(self.edges):
      raise ValueError(
        f"choices has {len(choices)} entries: expected {len(self.edges)}, one "
        "per searched edge"
      )
    chosen = tuple(
      dataclasses.replace(edge, ops=(edge.ops[edge.index(choice)],))
      for edge, choice in zip(self.edges, choices)
    )
    return self.with_edges(chosen)

  def __str__(self) -> str:
    """A short table: a summary, then a line per edge (`edge_table`)."""
    h, w, c = self.image_shape
    first = (
      f"{type(self).__name__} of {h}x{w}x{c} images, {self.classes} classes"
    )
    if self.is_architecture:
      first += f": {parameters(self):,} parameters, {macs(self):,} MACs"
    else:
      size = math.prod(len(edge.ops) for edge in self.edges)
      shown = f"{size:,}" if size < 10**9 else f"10^{self.log10_size:.1f}"
      first += f": {shown} architectures"
    return f"{first}\n{edge_table(self.layers)}"

  def to_json(self, path: str | os.PathLike | None = None) -> str:
    """The description as JSON text, also written to `path` where given."""
    header = {"version": VERSION, "family": self.family}
    text = json.dumps({**header, **to_plain(self)}, indent=1)
    if path is not None:
      check_path("path", path)
      with open(os.path.expanduser(path), "w", encoding="utf-8") as file:
        file.write(text + "\n")
    return text


def families() -> dict[str, type[Network]]:
  """All families of networks, by their names in JSON.

  These are the subclasses of `Network` that have a `family` of their own; of
  two with one name the later one, as where a notebook defines a class again.
  """
  found, kinds = {}, [Network]
  for kind in kinds:  # Grows: subclasses of subclasses too.
    kinds += kind.__subclasses__()
    if "family" in vars(kind):
      found[kind.family] = kind
  return found


def parameters(network: Network) -> int:
  """Number of trainable parameters of an architecture."""
  check_network("network", network)
  return sum(edge.op.parameters(edge) for edge in network.layers)


def macs(network: Network) -> int:
  """Number of multiply-accumulates of an architecture for one example."""
  check_network("network", network)
  return sum(edge.op.macs(edge) for edge in network.layers)


def check_network(field: str, value: object) -> None:
  """Raises a ValueError for anything but a network; names the argument."""
  if isinstance(value, Network):
    return
  got = repr(value) if isinstance(value, str) else type(value).__name__
  raise ValueError(
    f"{field} is {got}: expected a network, such as pj.zoo(name), "
    "pj.load_network(path) or pj.mobile_space() returns"
  )


def check_momentum(value: float) -> None:
  """Raises a ValueError for an invalid momentum of running statistics."""
  fits = type(value) is float and 0.0 <= value < 1.0
  expected = "a float of 0 or more, below 1 (PyTorch's is 1 minus it)"
  expect(fits, "bn_momentum", value, expected)


def check_names(layers: Sequence[Edge]) -> None:
  """Raises a ValueError where two edges share a name, or there are none."""
  names = [edge.name for edge in layers]
  different = names and len(set(names)) == len(names)
  expect(different, "edge names", names, "one or more different names")


def check_joint(one: Edge, next_: Edge) -> None:
  """Raises a ValueError where an edge does not fit the one that feeds it."""
  for field, out in (
    ("features_in", one.features_out),
    ("size", one.size_out),
  ):
    if getattr(next_, field) != out:
      raise ValueError(
        f"edge {next_.name!r}: {field} = {getattr(next_, field)}: "
        f"expected {out}, as the output of edge {one.name!r}"
      )
