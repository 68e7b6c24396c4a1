"""Where the released PyTorch state dicts hold what our variables hold.

The authors of ProxylessNAS released two layouts, one for the ImageNet networks
(github.com/mit-han-lab/proxylessnas, `proxyless_nas/nas_modules.py`), one for
the CIFAR-10 network (`cifar_modules.py` beside it). Each serves every network
made of the same operations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from proxyless_jax.space import (
  AvgPool,
  Block,
  Chain,
  Classifier,
  ConvBN,
  Edge,
  Identity,
  MaxPool,
  MBConv,
  Network,
  Norm,
  NormConv,
  NormSepConv,
  Op,
  PlainConv,
  Tree,
  Zero,
  named,
)


class Entry(NamedTuple):
  """A tensor of a state dict.

  Attributes:
    name: in the state dict.
    shape: there: out x in x k x k, out x in, or a vector.
    path: of its array in our variables, from the collection down; empty for
      the counters of batch norms, which we have none of.
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
  if type(network) not in LAYOUTS:
    raise ValueError(
      f"{type(network).__name__} has no released PyTorch layout: expected one "
      f"of {[kind.__name__ for kind in LAYOUTS]}"
    )
  return list(LAYOUTS[type(network)](network))


def _chain(network: Chain) -> Iterator[Entry]:
  if len(network.layers) < 2:
    raise ValueError("expected a chain with a stem and a classifier")
  stem, *blocks, classifier = network.layers
  # MCUNet's networks have the same layout, and no head.
  heads = [blocks.pop()] if blocks and _is_head(blocks[-1]) else []
  yield from _conv_bn("first_conv", stem)
  for number, edge in enumerate(blocks):
    if edge.op != Zero():
      yield from _mbconv(f"blocks.{number}.mobile_inverted_conv", edge)
  for head in heads:
    yield from _conv_bn("feature_mix_layer", head)
  yield from _classifier(classifier)


def _is_head(edge: Edge) -> bool:
  return isinstance(edge.op, ConvBN)


def _conv_bn(name: str, edge: Edge) -> Iterator[Entry]:
  _check(isinstance(edge.op, ConvBN), edge, "'conv_k{kernel}'")
  at = (edge.name, edge.op.name)
  shape = (edge.features_out, edge.features_in, *[edge.op.kernel] * 2)
  yield Entry(f"{name}.conv.weight", shape, ("params", *at, "conv", "kernel"))
  yield from _norm(f"{name}.bn", edge.features_out, (*at, "bn"))


def _mbconv(name: str, edge: Edge) -> Iterator[Entry]:
  op = edge.op
  fits = isinstance(op, MBConv) and not op.squeeze
  _check(fits, edge, "'mbconv{expand}_k{kernel}' or 'zero'")
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
    yield from _norm(f"{name}.{theirs}.bn", shape[0], (*at, f"{ours}_bn"))


def _classifier(edge: Edge) -> Iterator[Entry]:
  _check_is(edge, Classifier())
  shape = (edge.features_out, edge.features_in)
  at = ("params", edge.name, edge.op.name)
  yield Entry("classifier.linear.weight", shape, (*at, "kernel"))
  yield Entry("classifier.linear.bias", shape[:1], (*at, "bias"))


def _norm(name: str, width: int, at: tuple[str, ...]) -> Iterator[Entry]:
  yield Entry(f"{name}.weight", (width,), ("params", *at, "scale"))
  yield Entry(f"{name}.bias", (width,), ("params", *at, "bias"))
  yield Entry(f"{name}.running_mean", (width,), ("batch_stats", *at, "mean"))
  yield Entry(f"{name}.running_var", (width,), ("batch_stats", *at, "var"))
  yield Entry(f"{name}.num_batches_tracked", (), ())


def _tree(network: Tree) -> Iterator[Entry]:
  if (len(network.before), len(network.after)) != (2, 2):
    raise ValueError(
      "expected two edges before the blocks (stem, norm) and two after them "
      f"(norm, classifier), got {len(network.before)} and {len(network.after)}"
    )
  stem, norm = network.before
  _check_is(stem, PlainConv(3))
  shape = (stem.features_out, stem.features_in, 3, 3)
  path = ("params", stem.name, stem.op.name, "conv", "kernel")
  yield Entry("blocks.0.layers.0.conv.weight", shape, path)
  yield from _plain_norm("blocks.0.layers.1.bn", norm)
  for number, block in enumerate(network.blocks, 1):
    yield from _block(f"blocks.{number}", block)
  norm, classifier = network.after
  number = len(network.blocks) + 1
  yield from _plain_norm(f"blocks.{number}.layers.0.bn", norm, relu=True)
  yield from _classifier(classifier)


def _block(name: str, block: Block) -> Iterator[Entry]:
  halves = len(block.branch_norms)
  _check_is(block.in_bottleneck, NormConv(1, relu=False))
  conv, plain = block.conv.op, NormConv(3, groups=halves)
  if isinstance(conv, NormConv):
    # A shuffle has no entries: the layout is the same without it.
    conv = dataclasses.replace(named(conv), shuffle=False)
  _check(conv == plain, block.conv, repr(plain.name))
  _check_is(block.out_bottleneck, NormConv(1))
  yield from _norm_conv(f"{name}.in_bottle", block.in_bottleneck)
  yield from _norm_conv(f"{name}.cell.edges.0", block.conv)
  root = f"{name}.cell.child_nodes.0"
  for half, edge in enumerate(block.branch_norms):
    yield from _plain_norm(f"{root}.branch_bns.{half}", edge)
  for depth, level in enumerate(block.levels, 1):
    for i, edge in enumerate(level):
      place = _place(i, depth, block.branches)
      yield from _tree_edge(f"{root}.{place}", edge)
  yield from _norm_conv(f"{name}.out_bottle", block.out_bottleneck)
  yield from _plain_norm(f"{name}.final_bn", block.final_norm)


def _place(i: int, depth: int, branches: int) -> str:
  """The way from the root of the trees to edge i of a level."""
  way = f"edges.{i % branches}"
  for _ in range(depth - 1):
    i //= branches
    way = f"child_nodes.{i % branches}.{way}"
  return f"child_nodes.{i // branches}.{way}"


def _tree_edge(name: str, edge: Edge) -> Iterator[Entry]:
  op = edge.op
  if isinstance(op, MaxPool | AvgPool | Identity):
    return
  _check(isinstance(op, NormSepConv), edge, "a candidate of `tree_space`")
  at, width = (edge.name, op.name), edge.features_in
  yield from _norm(f"{name}.bn", width, (*at, "bn"))
  depthwise = (width, 1, op.kernel, op.kernel)
  path = ("params", *at, "depthwise")
  yield Entry(f"{name}.depth_conv.weight", depthwise, path)
  pointwise = (edge.features_out, width, 1, 1)
  path = ("params", *at, "pointwise", "kernel")
  yield Entry(f"{name}.point_conv.weight", pointwise, path)


def _norm_conv(name: str, edge: Edge) -> Iterator[Entry]:
  op, at = edge.op, (edge.name, edge.op.name)
  yield from _norm(f"{name}.bn", edge.features_in, (*at, "bn"))
  seen = edge.features_in // op.groups
  shape = (edge.features_out, seen, op.kernel, op.kernel)
  yield Entry(f"{name}.conv.weight", shape, ("params", *at, "conv", "kernel"))


def _plain_norm(name: str, edge: Edge, relu: bool = False) -> Iterator[Entry]:
  _check_is(edge, Norm(relu))
  yield from _norm(name, edge.features_out, (edge.name, edge.op.name, "bn"))


def _check_is(edge: Edge, op: Op) -> None:
  _check(named(edge.op) == op, edge, repr(op.name))


def _check(fits: bool, edge: Edge, expected: str) -> None:
  if not fits:
    raise ValueError(
      f"edge {edge.name!r}: the released PyTorch layout has no place for "
      f"{edge.op.name!r}: expected {expected}"
    )


LAYOUTS = {Chain: _chain, Tree: _tree}
