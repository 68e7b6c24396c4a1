"""From names to operations: the one list of all names."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction

from proxyless_jax.space.edge import Op
from proxyless_jax.space.ops.cell import (
  EPSILON,
  BlockMaxPool,
  CellConv,
  FactorizedReduce,
  SepConv,
)
from proxyless_jax.space.ops.common import (
  AvgPool,
  Identity,
  MaxPool,
  Norm,
  PlainConv,
  Relu,
)
from proxyless_jax.space.ops.dense import DenseLayer, DenseTransition
from proxyless_jax.space.ops.mobile import Classifier, ConvBN, MBConv, Zero
from proxyless_jax.space.ops.path_level import TreeCellBlock
from proxyless_jax.space.ops.pyramid import PyramidBlock
from proxyless_jax.space.ops.resnet import BasicBlock
from proxyless_jax.space.ops.shake import ShakeBlock
from proxyless_jax.space.ops.shuffle import ShuffleUnit
from proxyless_jax.space.ops.tree import NormConv, NormSepConv
from proxyless_jax.space.suggest import did_you_mean


def _ratio(text: str) -> int | Fraction:
  """The number that a text such as '3' or '5over2' stands for."""
  if "over" not in text:
    return int(text)
  part, whole = map(int, text.split("over"))
  # By zero, or not in lowest terms: no name of an operation.
  return Fraction(part, whole) if whole and math.gcd(part, whole) == 1 else 0


# Form of a name, for people: (pattern, function from match to operation).
Patterns = dict[str, tuple[str, Callable[[re.Match], Op]]]
PATTERNS: Patterns = {
  "mbconv{expand}_k{kernel}[_se{squeeze}][_relu]": (
    r"mbconv(\d+(?:over\d+)?)_k(\d+)(?:_se(\d+))?(?:_(relu|linear))?",
    lambda m: MBConv(_ratio(m[1]), int(m[2]), int(m[3] or 0), m[4] or "relu6"),
  ),
  "zero": (r"zero", lambda m: Zero()),
  "identity": (r"identity", lambda m: Identity()),
  "conv_k{kernel}[_relu|_linear]": (
    r"conv_k(\d+)(?:_(relu|linear))?",
    lambda m: ConvBN(int(m[1]), m[2] or "relu6"),
  ),
  "max_pool_{kernel}": (r"max_pool_(\d+)", lambda m: MaxPool(int(m[1]))),
  "avg_pool_{kernel}": (r"avg_pool_(\d+)", lambda m: AvgPool(int(m[1]))),
  "norm[_relu]": (r"norm(_relu)?", lambda m: Norm(bool(m[1]))),
  "basic_block": (r"basic_block", lambda m: BasicBlock()),
  "shuffle_k{kernel}": (r"shuffle_k(\d+)", lambda m: ShuffleUnit(int(m[1]))),
  "norm[_relu]_conv_k{kernel}[_g{groups}[_shuffle]]": (
    r"norm(_relu)?_conv_k(\d+)(?:_g(\d+)(_shuffle)?)?",
    lambda m: NormConv(int(m[2]), bool(m[1]), int(m[3] or 1), bool(m[4])),
  ),
  "sep_conv_{kernel}": (r"sep_conv_(\d+)", lambda m: NormSepConv(int(m[1]))),
  "dil_conv_{kernel}": (
    r"dil_conv_(\d+)",
    lambda m: NormSepConv(int(m[1]), True),
  ),
  "relu": (r"relu", lambda m: Relu()),
  "plain_conv_k{kernel}": (
    r"plain_conv_k(\d+)",
    lambda m: PlainConv(int(m[1])),
  ),
  "dense_layer_{expand}": (
    r"dense_layer_(\d+)",
    lambda m: DenseLayer(int(m[1])),
  ),
  "dense_transition": (r"dense_transition", lambda m: DenseTransition()),
  "pyramid_block[_shakedrop_{part}_{whole}]": (
    r"pyramid_block(?:_shakedrop_(\d+)_([1-9]\d*))?",
    lambda m: PyramidBlock(Fraction(int(m[1] or 1), int(m[2] or 1))),
  ),
  "shake_block": (r"shake_block", lambda m: ShakeBlock()),
  "classifier": (r"classifier", lambda m: Classifier()),
  "[relu_]conv_bn_{kernel}[_eps{epsilon}]": (
    r"(relu_)?conv_bn_(\d+)(?:_eps([\d.e-]+))?",
    lambda m: CellConv(int(m[2]), bool(m[1]), float(m[3] or EPSILON)),
  ),
  "relu_sep_bn_{kernel}[_d{dilation}][_eps{epsilon}]": (
    r"relu_sep_bn_(\d+)(?:_d(\d+))?(?:_eps([\d.e-]+))?",
    lambda m: SepConv(int(m[1]), int(m[2] or 1), float(m[3] or EPSILON)),
  ),
  "[relu_]reduce_bn[_eps{epsilon}]": (
    r"(relu_)?reduce_bn(?:_eps([\d.e-]+))?",
    lambda m: FactorizedReduce(bool(m[1]), float(m[2] or EPSILON)),
  ),
  "max_pool_2x2": (r"max_pool_2x2", lambda m: BlockMaxPool()),
  "tree_cell_a_block": (r"tree_cell_a_block", lambda m: TreeCellBlock()),
}


def parse_op(name: object, ops: Iterable[Op] = ()) -> Op:
  """The operation of a name such as 'mbconv6_k3' or 'zero'.

  Args:
    name: `name` of the operation.
    ops: operations of your own, which come before the built-in ones.

  Raises:
    ValueError: no operation has this name.
  """
  ops = tuple(ops)
  for op in ops:
    if op.name == name:
      return op
  if not isinstance(name, str):
    raise ValueError(f"operation {name!r}: expected its name, as text")
  for pattern, operation in PATTERNS.values():
    if match := re.fullmatch(pattern, name):
      try:
        return operation(match)
      except ValueError as error:
        raise ValueError(f"operation {name!r}: {error}") from error
  meant = did_you_mean(name, [*_examples(name), *(op.name for op in ops)])
  raise ValueError(
    f"unknown operation {name!r}: expected a name such as 'mbconv6_k3' "
    f"({__name__}.PATTERNS has all), or an operation of your own, as an object"
    f"{meant}"
  )


def parse_candidates(candidates: object) -> tuple[Op, ...]:
  """The operations of a space's argument `candidates`.

  Args:
    candidates: names and operations.

  Raises:
    ValueError: no sequence of names and operations, or an unknown name.
  """
  is_one = isinstance(candidates, str | Op | Mapping)
  if is_one or not isinstance(candidates, Iterable):
    raise ValueError(
      f"candidates = {candidates!r}: expected a tuple of names or operations, "
      "such as ('mbconv3_k3', 'mbconv6_k3')"
    )
  return tuple(_candidate(i, given) for i, given in enumerate(candidates))


def _candidate(position: int, given: object) -> Op:
  if isinstance(given, Op):
    return given
  try:
    return parse_op(given)
  except ValueError as error:
    raise ValueError(f"candidates[{position}]: {error}") from error


def _examples(name: str) -> list[str]:
  """A name of each pattern, with the numbers of `name` where they fit."""
  numbers, examples = re.findall(r"\d+", name), []
  for pattern in PATTERNS:
    shortest, left = pattern, 1
    while left:  # Optional parts may have optional parts inside.
      shortest, left = re.subn(r"\[[^][]*\]", "", shortest)
    shortest, holes = re.subn(r"{\w+}", "{}", shortest)
    own = numbers if len(numbers) == holes else ["3"] * holes
    examples.append(shortest.format(*own))
  return examples
