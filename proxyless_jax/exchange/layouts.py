"""Where the released PyTorch state dicts hold what our variables hold.

The authors of ProxylessNAS released two layouts, one for the ImageNet networks
(github.com/mit-han-lab/proxylessnas, `proxyless_nas/nas_modules.py`), one for
the CIFAR-10 network (`cifar_modules.py` beside it). Each serves every network
made of the same operations.

`layout` says in which order the edges of a family follow and what they are
called, `tensors` which tensors an operation has there. Both are
`functools.singledispatch` functions, so that others can be registered.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import NamedTuple

from proxyless_jax.space import (
  Block,
  Chain,
  Edge,
  Network,
  Op,
  Tree,
  named,
  ops,
)


class Entry(NamedTuple):
  """A tensor of a state dict.

  Attributes:
    name: key in the state dict.
    shape: shape there: out x in x k x k, out x in, or a vector.
    path: path of the array in our variables, from the collection down; empty
      for the counters of batch norms, which we do not have.
  """

  name: str
  shape: tuple[int, ...]
  path: tuple[str, ...]


def entries(network: Network) -> list[Entry]:
  """The state dict of an architecture.

  Raises:
    ValueError: no released layout has a place for one of its operations; or it
      is no architecture.
  """
  return list(layout(network))


@functools.singledispatch
def layout(network: Network) -> Iterator[Entry]:
  """The tensors of a family's state dict; register families of your own.

  Raises:
    ValueError: the network's family is not registered.
  """
  raise ValueError(
    f"{type(network).__name__} has no released PyTorch layout: expected a "
    "Chain or a Tree; register others by "
    "proxyless_jax.exchange.layouts.layout.register"
  )


@layout.register
def _(network: Chain) -> Iterator[Entry]:
  if len(network.layers) < 2:
    raise ValueError("expected a chain with a stem and a classifier")
  stem, *blocks, classifier = network.layers
  # MCUNet's networks have the same layout, and no head.
  heads = [blocks.pop()] if blocks and _is_head(blocks[-1]) else []
  _check(_is_head(stem), stem, "'conv_k{kernel}'")
  yield from tensors(stem.op, stem, "first_conv")
  for number, edge in enumerate(blocks):
    fits = edge.op == ops.Zero() or isinstance(edge.op, ops.MBConv)
    _check(fits, edge, "'mbconv{expand}_k{kernel}' or 'zero'")
    name = f"blocks.{number}.mobile_inverted_conv"
    yield from tensors(edge.op, edge, name)
  for head in heads:
    yield from tensors(head.op, head, "feature_mix_layer")
  yield from _classifier(classifier)


def _is_head(edge: Edge) -> bool:
  return isinstance(edge.op, ops.ConvBN)


def _classifier(edge: Edge) -> Iterator[Entry]:
  _check_is(edge, ops.Classifier())
  yield from tensors(edge.op, edge, "classifier")


@layout.register
def _(network: Tree) -> Iterator[Entry]:
  if (len(network.before), len(network.after)) != (2, 2):
    raise ValueError(
      "expected two edges before the blocks (stem, norm) and two after them "
      f"(norm, classifier), got {len(network.before)} and {len(network.after)}"
    )
  stem, norm = network.before
  _check_is(stem, ops.PlainConv(3))
  yield from tensors(stem.op, stem, "blocks.0.layers.0")
  yield from _norm("blocks.0.layers.1.bn", norm)
  for number, block in enumerate(network.blocks, 1):
    yield from _block(f"blocks.{number}", block)
  norm, classifier = network.after
  number = len(network.blocks) + 1
  yield from _norm(f"blocks.{number}.layers.0.bn", norm, relu=True)
  yield from _classifier(classifier)


def _block(name: str, block: Block) -> Iterator[Entry]:
  halves = len(block.branch_norms)
  _check_is(block.in_bottleneck, ops.NormConv(1, relu=False))
  conv, plain = block.conv.op, ops.NormConv(3, groups=halves)
  if isinstance(conv, ops.NormConv):
    # A shuffle has no entries: the layout is the same without it.
    conv = dataclasses.replace(named(conv), shuffle=False)
  _check(conv == plain, block.conv, repr(plain.name))
  _check_is(block.out_bottleneck, ops.NormConv(1))
  for part, edge in (
    ("in_bottle", block.in_bottleneck),
    ("cell.edges.0", block.conv),
  ):
    yield from tensors(edge.op, edge, f"{name}.{part}")
  root = f"{name}.cell.child_nodes.0"
  for half, edge in enumerate(block.branch_norms):
    yield from _norm(f"{root}.branch_bns.{half}", edge)
  for depth, level in enumerate(block.levels, 1):
    for i, edge in enumerate(level):
      way = _way(i, depth, block.branches)
      fits = isinstance(
        edge.op, ops.NormSepConv | ops.MaxPool | ops.AvgPool | ops.Identity
      )
      _check(fits, edge, "a candidate of `tree_space`")
      yield from tensors(edge.op, edge, f"{root}.{way}")
  last = block.out_bottleneck
  yield from tensors(last.op, last, f"{name}.out_bottle")
  yield from _norm(f"{name}.final_bn", block.final_norm)


def _way(i: int, depth: int, branches: int) -> str:
  """The way from the root of the trees to edge i of a level."""
  way = f"edges.{i % branches}"
  for _ in range(depth - 1):
    i //= branches
    way = f"child_nodes.{i % branches}.{way}"
  return f"child_nodes.{i // branches}.{way}"


def _norm(name: str, edge: Edge, relu: bool = False) -> Iterator[Entry]:
  _check_is(edge, ops.Norm(relu))
  yield from tensors(edge.op, edge, name)


@functools.singledispatch
def tensors(op: Op, edge: Edge, name: str) -> Iterator[Entry]:
  """The tensors of an operation; register those of a layout of your own.

  Args:
    op: operation.
    edge: edge of the operation.
    name: prefix of the tensors' names in the state dict.

  Raises:
    ValueError: the operation's type is not registered.
  """
  del op, name
  _check(False, edge, "one with a released layout")
  yield from ()  # Makes it an iterator, like the registered ones.


@tensors.register(ops.Zero)
@tensors.register(ops.Identity)
@tensors.register(ops.MaxPool)
@tensors.register(ops.AvgPool)
def _(op: Op, edge: Edge, name: str) -> Iterator[Entry]:
  del op, edge, name
  yield from ()


@tensors.register
def _(op: ops.PlainConv, edge: Edge, name: str) -> Iterator[Entry]:
  shape = (edge.features_out, edge.features_in, op.kernel, op.kernel)
  path = ("params", edge.name, op.name, "conv", "kernel")
  yield Entry(f"{name}.conv.weight", shape, path)


@tensors.register
def _(op: ops.ConvBN, edge: Edge, name: str) -> Iterator[Entry]:
  at = (edge.name, op.name)
  shape = (edge.features_out, edge.features_in, op.kernel, op.kernel)
  yield Entry(f"{name}.conv.weight", shape, ("params", *at, "conv", "kernel"))
  yield from _batch_norm(f"{name}.bn", edge.features_out, (*at, "bn"))


@tensors.register
def _(op: ops.MBConv, edge: Edge, name: str) -> Iterator[Entry]:
  _check(not op.squeeze, edge, "'mbconv{expand}_k{kernel}' or 'zero'")
  hidden, at = op.hidden(edge), (edge.name, op.name)
  convs = [
    ("depth_conv", (hidden, 1, op.kernel, op.kernel), "depthwise", ()),
    ("point_linear", (edge.features_out, hidden, 1, 1), "project", ("kernel",)),
  ]
  if op.expands:
    shape = (hidden, edge.features_in, 1, 1)
    convs.insert(0, ("inverted_bottleneck", shape, "expand", ("kernel",)))
  for theirs, shape, ours, leaf in convs:
    path = ("params", *at, ours, *leaf)
    yield Entry(f"{name}.{theirs}.conv.weight", shape, path)
    yield from _batch_norm(f"{name}.{theirs}.bn", shape[0], (*at, f"{ours}_bn"))


@tensors.register
def _(op: ops.Classifier, edge: Edge, name: str) -> Iterator[Entry]:
  shape = (edge.features_out, edge.features_in)
  at = ("params", edge.name, op.name)
  yield Entry(f"{name}.linear.weight", shape, (*at, "kernel"))
  yield Entry(f"{name}.linear.bias", shape[:1], (*at, "bias"))


@tensors.register
def _(op: ops.Norm, edge: Edge, name: str) -> Iterator[Entry]:
  at = (edge.name, op.name, "bn")
  yield from _batch_norm(name, edge.features_out, at)


@tensors.register
def _(op: ops.NormConv, edge: Edge, name: str) -> Iterator[Entry]:
  at = (edge.name, op.name)
  yield from _batch_norm(f"{name}.bn", edge.features_in, (*at, "bn"))
  seen = edge.features_in // op.groups
  shape = (edge.features_out, seen, op.kernel, op.kernel)
  yield Entry(f"{name}.conv.weight", shape, ("params", *at, "conv", "kernel"))


@tensors.register
def _(op: ops.NormSepConv, edge: Edge, name: str) -> Iterator[Entry]:
  at, width = (edge.name, op.name), edge.features_in
  yield from _batch_norm(f"{name}.bn", width, (*at, "bn"))
  depthwise = (width, 1, op.kernel, op.kernel)
  path: tuple[str, ...] = ("params", *at, "depthwise")
  yield Entry(f"{name}.depth_conv.weight", depthwise, path)
  pointwise = (edge.features_out, width, 1, 1)
  path = ("params", *at, "pointwise", "kernel")
  yield Entry(f"{name}.point_conv.weight", pointwise, path)


def _batch_norm(name: str, width: int, at: tuple[str, ...]) -> Iterator[Entry]:
  yield Entry(f"{name}.weight", (width,), ("params", *at, "scale"))
  yield Entry(f"{name}.bias", (width,), ("params", *at, "bias"))
  yield Entry(f"{name}.running_mean", (width,), ("batch_stats", *at, "mean"))
  yield Entry(f"{name}.running_var", (width,), ("batch_stats", *at, "var"))
  yield Entry(f"{name}.num_batches_tracked", (), ())


def _check_is(edge: Edge, op: Op) -> None:
  _check(named(edge.op) == op, edge, repr(op.name))


def _check(fits: bool, edge: Edge, expected: str) -> None:
  if not fits:
    raise ValueError(
      f"edge {edge.name!r}: the released PyTorch layout has no place for "
      f"{edge.op.name!r}: expected {expected}"
    )
