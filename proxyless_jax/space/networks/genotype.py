"""Genotypes: two kinds of cell as text, and the networks made of them.

A network has a stem, then three stages of normal cells, with a reduction before
the second and the third, which halves the map and doubles the filters, then the
classifier.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from proxyless_jax.space.checks import check_positive, expect
from proxyless_jax.space.edge import Edge, Op, Size
from proxyless_jax.space.networks.cells import Cell, CellNetwork, Path, Shape
from proxyless_jax.space.networks.chain import ChainBuilder
from proxyless_jax.space.ops.cell import (
  BlockMaxPool,
  CellConv,
  FactorizedReduce,
  SepConv,
)
from proxyless_jax.space.ops.common import AvgPool, MaxPool, Relu

POOLS = {"avg_3": AvgPool(3), "max_3": MaxPool(3), "max_2": BlockMaxPool()}
# Separable convolutions: kernel, dilation, how many of them in a row.
SEPARABLE = {
  "sep_3": (3, 1, 2),
  "sep_5": (5, 1, 2),
  "sep_7": (7, 1, 2),
  "dil_3": (3, 2, 1),
  "dil_sep_5": (5, 2, 2),
}
STRIDED_SKIPS = ("conv", "reduce", "relu_reduce")
# Of a bottleneck of AmoebaNet: its filters are the cell's over this.
BOTTLENECK = 4
# One operation of a path: (operation, features_out, stride).
Layer = tuple[Op, int, int]


@dataclasses.dataclass(frozen=True)
class Genotype:
  """The result of a search: the wiring of a normal cell and of a reduction.

  Attributes:
    normal, reduction: a line per node, of {operation}:{state} pairs, which are
      added. States 0 and 1 are the outputs of the cell before the last and of
      the last, then come the nodes. Operations: skip, conv_1, conv_3 (through a
      bottleneck), and those of `POOLS` and `SEPARABLE`.
    normal_outputs, reduction_outputs: states that are concatenated.
  """

  normal: str
  normal_outputs: tuple[int, ...]
  reduction: str
  reduction_outputs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Style:
  """The differences between networks of cells besides their genotypes.

  Attributes:
    epsilon: constant added to the variance in every batch norm.
    strided_skip: form of a skip that must halve the map: 'conv' (ReLU and a
      1x1 convolution), 'reduce' or 'relu_reduce' (factorised reduction).
    last_convs: number of 1x1 convolutions of each cell's state 1.
    raw_first: whether the first cell's state 0 is the stem's output itself,
      whatever its width, and whether any state 0 that fits is used as it is.
    relu_head: whether there is a ReLU before the pooling at the end.
  """

  epsilon: float
  strided_skip: str = "conv"
  last_convs: int = 1
  raw_first: bool = True
  relu_head: bool = True

  def __post_init__(self) -> None:
    known = self.strided_skip in STRIDED_SKIPS
    expect(known, "strided_skip", self.strided_skip, f"one of {STRIDED_SKIPS}")

  @property
  def conv(self) -> CellConv:
    """The 1x1 convolution."""
    return CellConv(1, epsilon=self.epsilon)


def cell_network(
  genotype: Genotype,
  style: Style,
  images: tuple[Size, int, int],
  *,
  cells: int,
  filters: int,
  stem_filters: int,
  stem_reductions: int = 0,
) -> CellNetwork:
  """A network of a genotype's cells.

  Args:
    genotype: wiring of the cells.
    style: form of their operations.
    images: size, channels and classes of the data.
    cells: number of normal cells in each of the three stages.
    filters: width of the first stage's operations.
    stem_filters: width of the 3x3 convolution at the beginning, which has
      stride 2 where there are `stem_reductions`.
    stem_reductions: number of reduction cells before the first stage, at a
      half, a quarter, ... of its filters.

  Raises:
    ValueError: names the field, the value, and what was expected.
  """
  check_positive(cells=cells, filters=filters)
  multiple = 2**stem_reductions
  even = filters % multiple == 0
  expect(even, "filters", filters, f"a multiple of {multiple}")
  size, channels, classes = images
  chain = ChainBuilder(channels, size)
  stem = CellConv(3, relu=False, epsilon=style.epsilon)
  stride = 2 if stem_reductions else 1
  before = (chain.add("stem", (stem,), stem_filters, stride),)
  shapes = [Shape(chain.size, chain.features)] * 2
  made: list[Cell] = []
  for reduces, width in _plan(cells, filters, stem_reductions):
    cell = _CellBuilder(genotype, style, f"cell{len(made)}", width, reduces)
    made.append(cell.build(shapes, first=not made))
    shapes = [shapes[1], made[-1].shape(shapes, cell.name)]
  after = _head(shapes[1], style, classes)
  return CellNetwork(before, tuple(made), after)


def _head(last: Shape, style: Style, classes: int) -> tuple[Edge, ...]:
  """The edges after the last cell."""
  chain = ChainBuilder(last.features, last.size)
  relu = [chain.add("head", (Relu(),), last.features)] * style.relu_head
  return (*relu, chain.add_classifier(classes))


def _plan(
  cells: int, filters: int, stem_reductions: int
) -> Iterable[tuple[bool, int]]:
  """Whether it is a reduction, and the filters, of each cell."""
  for i in range(stem_reductions, 0, -1):
    yield True, filters // 2**i
  for stage in range(3):
    if stage:
      yield True, filters * 2**stage
    for _ in range(cells):
      yield False, filters * 2**stage


@dataclasses.dataclass(frozen=True)
class _CellBuilder:
  """Makes one cell.

  Attributes:
    genotype, style: as in `cell_network`.
    name: prefix of the names of its edges.
    width: width of its operations.
    reduces: whether it is a reduction.
  """

  genotype: Genotype
  style: Style
  name: str
  width: int
  reduces: bool

  def build(self, before: list[Shape], first: bool) -> Cell:
    """The cell that follows cells of these output shapes."""
    wiring, outputs = self.genotype.normal, self.genotype.normal_outputs
    if self.reduces:
      wiring = self.genotype.reduction
      outputs = self.genotype.reduction_outputs
    inputs = self._inputs(before, first)
    states = [path.shape(before, self.name) for path in inputs]
    nodes: list[tuple[Path, ...]] = []
    for line in wiring.strip().splitlines():
      paths = []
      for i, pair in enumerate(line.split()):
        operation, source = pair.split(":")
        name = f"{self.name}_node{len(nodes)}_{i}"
        paths.append(self._path(name, operation, int(source), states))
      nodes.append(tuple(paths))
      states.append(paths[0].shape(states, self.name))
    paths = [self._output(source, states) for source in outputs]
    return Cell(inputs, tuple(nodes), tuple(paths))

  def _inputs(self, before: list[Shape], first: bool) -> tuple[Path, Path]:
    """Both at the size of the last cell's output, `width` channels each."""
    older, last = before
    conv, epsilon = self.style.conv, self.style.epsilon
    fits = first or older == (last.size, self.width)
    ops: list[Layer]
    if older.size != last.size:
      ops = [(FactorizedReduce(True, epsilon), self.width, 2)]
    elif self.style.raw_first and fits:
      ops = []
    else:
      ops = [(conv, self.width, 1)]
    convs: list[Layer] = [(conv, self.width, 1)] * self.style.last_convs
    return (
      Path(0, _edges(f"{self.name}_older", ops, older)),
      Path(1, _edges(f"{self.name}_last", convs, last)),
    )

  def _path(
    self, name: str, operation: str, source: int, states: list[Shape]
  ) -> Path:
    stride = 2 if self.reduces and source < 2 else 1
    ops = self._ops(operation, stride, states[source].features)
    return Path(source, _edges(name, ops, states[source]))

  def _ops(self, operation: str, stride: int, features: int) -> list[Layer]:
    """The operation as a chain of layers."""
    width, epsilon, conv = self.width, self.style.epsilon, self.style.conv
    if operation == "skip":
      return self._skip(stride, features)
    if operation == "conv_1":
      return [(conv, width, stride)]
    if operation == "conv_3":
      middle = max(1, width // BOTTLENECK)
      conv3 = CellConv(3, epsilon=epsilon)
      return [(conv, middle, 1), (conv3, middle, stride), (conv, width, 1)]
    if operation in SEPARABLE:
      kernel, dilation, count = SEPARABLE[operation]
      sep = SepConv(kernel, dilation, epsilon)
      return [(sep, width, stride if i == 0 else 1) for i in range(count)]
    known = ["skip", "conv_1", "conv_3", *SEPARABLE, *POOLS]
    expect(operation in POOLS, "operation", operation, f"one of {known}")
    pool = [(POOLS[operation], features, stride)]
    return pool + self._projection(features)

  def _skip(self, stride: int, features: int) -> list[Layer]:
    if stride == 2 and self.style.strided_skip != "conv":
      relu = self.style.strided_skip == "relu_reduce"
      return [(FactorizedReduce(relu, self.style.epsilon), self.width, 2)]
    if stride == 2 or features != self.width:
      return [(self.style.conv, self.width, stride)]
    return []

  def _projection(self, features: int) -> list[Layer]:
    """To the cell's width, from what is not: the stem's output."""
    op = CellConv(1, relu=False, epsilon=self.style.epsilon)
    return [(op, self.width, 1)] if features != self.width else []

  def _output(self, source: int, states: list[Shape]) -> Path:
    ops = self._projection(states[source].features)
    name = f"{self.name}_output{source}"
    return Path(source, _edges(name, ops, states[source]))


def _edges(name: str, ops: list[Layer], start: Shape) -> tuple[Edge, ...]:
  chain = ChainBuilder(start.features, start.size)
  return tuple(
    chain.add(f"{name}_{i}" if len(ops) > 1 else name, (op,), width, stride)
    for i, (op, width, stride) in enumerate(ops)
  )
