"""Peak memory of activations, from shapes alone.

While a chain runs, these tensors are alive at a step: its input, its output,
and the input that a shortcut keeps. Batch norm and activations work in place,
as compilers fuse them into the convolution before. So the peak of an edge is
the largest of such sums over its steps, and the peak of a network the largest
over its edges. In other families than chains, tensors that an edge does not
know of are alive beside it: `beside` counts them.

Both `alive`, by operation, and `beside`, by family, are
`functools.singledispatch` functions: register those of your own.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

from proxyless_jax.space import Block, Chain, Edge, Network, Op, Tree, ops
from proxyless_jax.space.networks.tree import tree_graph


class Beside(NamedTuple):
  """What the network around an edge keeps alive while the edge runs.

  Attributes:
    elements: number of elements of tensors that are neither the edge's input
      nor its own.
    keeps_input: whether a later edge reads this edge's input too.
  """

  elements: int = 0
  keeps_input: bool = False


CHAIN = Beside()
# A tensor of a block: a node of its trees by number, any other by name.
Tensor = str | int


def peak_elements(op: Op, edge: Edge, around: Beside = CHAIN) -> int:
  """The peak number of elements alive while an edge runs, for one example.

  Args:
    op: operation of the edge.
    edge: edge that runs.
    around: number of other elements that are alive.

  Raises:
    ValueError: an operation that is not registered in `alive`.
  """
  keeps = edge.shortcut or around.keeps_input
  own = max(
    others + (edge.elements_in if reads or keeps else 0)
    for reads, others in alive(op, edge)
  )
  return own + around.elements


@functools.singledispatch
def beside(network: Network) -> dict[str, Beside]:
  """What is alive beside edges, by their names; register your own families.

  Args:
    network: a space or an architecture.

  Returns:
    An entry for each edge beside which there is more than in a chain: nothing.

  Raises:
    ValueError: the network's family is not registered.
  """
  raise ValueError(
    f"memory of networks of the family {network.family!r} is not known: "
    "expected a chain or a tree; register others by "
    "proxyless_jax.hardware.beside.register"
  )


@beside.register
def _(network: Chain) -> dict[str, Beside]:
  del network
  return {}


@beside.register
def _(network: Tree) -> dict[str, Beside]:
  return {
    name: around
    for block in network.blocks
    for name, around in _beside_in_block(block).items()
  }


def _beside_in_block(block: Block) -> dict[str, Beside]:
  """Liveness of a block's tensors, in the order in which its edges run."""
  halves = len(block.branch_norms)
  graph = tree_graph(halves, block.branches, len(block.edges))
  outputs = range(graph.read, graph.nodes)
  # Of each edge: the tensors that it reads, the first as its input; and those
  # that are there after it, where a sum is one tensor from its first term on.
  steps: list[tuple[Edge, Sequence[Tensor], Sequence[Tensor]]] = [
    (block.in_bottleneck, ["x"], ["inner"]),
    (block.conv, ["inner"], range(halves)),
    *(
      (edge, [source], [target])
      for edge, source, target in zip(block.edges, graph.sources, graph.targets)
    ),
    *(
      (norm, [output, half], ["sum"])
      for half, (norm, output) in enumerate(zip(block.branch_norms, outputs))
    ),
    (block.out_bottleneck, ["sum"], ["out"]),
    (block.final_norm, ["out", "x"], ["out"]),
  ]
  first: dict[Tensor, int] = {"x": -1}
  last: dict[Tensor, int] = {}
  for step, (_, reads, writes) in enumerate(steps):
    last |= dict.fromkeys(reads, step)
    first |= {name: step for name in writes if name not in first}
  sizes = _sizes(block, graph.nodes)
  around = {}
  for step, (edge, (source, *_), _) in enumerate(steps):
    others = [n for n in last if first[n] < step <= last[n] and n != source]
    elements = sum(sizes[name] for name in others)
    around[edge.name] = Beside(elements, last[source] > step)
  return around


def _sizes(block: Block, nodes: int) -> dict[Tensor, int]:
  """Elements of each tensor of a block; of a tree's nodes, by number."""
  one = block.branch_norms[0].elements_out
  return dict.fromkeys(range(nodes), one) | {
    "x": block.in_bottleneck.elements_in,
    "inner": block.in_bottleneck.elements_out,
    "sum": one,
    "out": block.out_bottleneck.elements_out,
  }


# A step of an operation: whether it reads the edge's input, and how many
# elements of other tensors are alive.
Step = tuple[bool, int]


@functools.singledispatch
def alive(op: Op, edge: Edge) -> list[Step]:
  """The steps of an operation; register operations of your own.

  Args:
    op: operation of the edge.
    edge: edge that runs.

  Returns:
    For each step, whether it reads the edge's input, and how many elements of
    other tensors are alive while it runs.

  Raises:
    ValueError: the operation's type is not registered.
  """
  raise ValueError(
    f"edge {edge.name!r}: memory of the operation {op.name!r} is not known: "
    "expected a function of (operation, edge) that is registered by "
    "proxyless_jax.hardware.alive.register"
  )


@alive.register(ops.Zero)
@alive.register(ops.Identity)
@alive.register(ops.Norm)
def _in_place(op: Op, edge: Edge) -> list[Step]:
  del op, edge
  return [(True, 0)]


@alive.register(ops.ConvBN)
@alive.register(ops.PlainConv)
@alive.register(ops.NormConv)
@alive.register(ops.MaxPool)
@alive.register(ops.AvgPool)
def _one_step(op: Op, edge: Edge) -> list[Step]:
  del op
  return [(True, edge.elements_out)]


@alive.register
def _(op: ops.Classifier, edge: Edge) -> list[Step]:
  del op
  return [
    (True, edge.features_in),
    (False, edge.features_in + edge.features_out),
  ]


@alive.register
def _(op: ops.NormSepConv, edge: Edge) -> list[Step]:
  del op
  inner = edge.pixels_out * edge.features_in
  return [(True, inner), (False, inner + edge.elements_out)]


@alive.register
def _(op: ops.MBConv, edge: Edge) -> list[Step]:
  hidden, squeezed = op.hidden(edge), op.squeezed(edge)
  inner = edge.pixels_out * hidden
  if op.expands:
    expanded = edge.pixels_in * hidden
    steps = [(True, expanded), (False, expanded + inner)]
  else:
    steps = [(True, inner)]
  if squeezed:
    # The pooled vector, or the scales, beside the squeezed one.
    steps.append((False, inner + hidden + squeezed))
  return [*steps, (False, inner + edge.elements_out)]
