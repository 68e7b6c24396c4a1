"""How operations look in the figures of all families: words, kernel, colour."""

from __future__ import annotations

import re

from proxyless_jax.report.shapes import (
  KERNEL_COLORS,
  NO_KERNEL,
  OTHER_KERNEL,
  Legend,
)
from proxyless_jax.space import (
  BlockMaxPool,
  CellConv,
  FactorizedReduce,
  MBConv,
  NormConv,
  Op,
  SepConv,
)

# Of kinds that share their kernels with others.
KIND_COLORS = {
  "max pool": "#cdb79b",
  "avg pool": "#ece3d2",
  "dil conv": "#8fc7b5",
  "factorized reduce": KERNEL_COLORS[1],  # Two 1x1 convolutions.
}


def kernel_of(op: Op) -> int | None:
  """Kernel size: the attribute, or else the end of the name; None: neither."""
  if kernel := getattr(op, "kernel", None):
    return kernel
  if isinstance(op, BlockMaxPool):
    return 2
  if hasattr(op, "expand"):  # The number in its name is the expansion.
    return None
  match = re.search(r"_k?(\d+)$", op.name)
  return int(match[1]) if match else None


def kind_of(op: Op) -> str:
  """Words for an operation, without its kernel, such as 'sep conv'."""
  match op:
    case MBConv():
      squeeze = " SE" if op.squeeze else ""
      return f"MB{op.expand}{squeeze}"
    case SepConv():
      return "sep conv" if op.dilation == 1 else "dil conv"
    case CellConv() | NormConv():
      return "conv"
    case FactorizedReduce():
      return "factorized reduce"
    case BlockMaxPool():
      return "max pool"
  name = re.sub(r"_k\d+(?=_|$)|_\d+$", "", op.name)
  if kernel_of(op):
    name = re.sub(r"_(relu|linear)$", "", name)
  return name.replace("_", " ")


def words_of(op: Op) -> str:
  """Words for an operation, such as 'sep conv 3×3'."""
  kernel = kernel_of(op)
  return kind_of(op) if kernel is None else f"{kind_of(op)} {by(kernel)}"


def words_or_skip(op: Op) -> str:
  """As `words_of`; of the operation that leaves a block out, 'skip'."""
  return "skip" if op.name == "zero" else words_of(op)


def by(kernel: int) -> str:
  """A kernel's size, such as '3×3'."""
  return f"{kernel}×{kernel}"


def color_of(op: Op) -> str:
  """Colour of a searched operation: of its kind, or else of its kernel."""
  kind, kernel = kind_of(op), kernel_of(op)
  if kind in KIND_COLORS:
    return KIND_COLORS[kind]
  if kernel is None:
    return NO_KERNEL
  return KERNEL_COLORS.get(kernel, OTHER_KERNEL)


def abbreviations(ops: list[Op]) -> Legend:
  """Legend entries that spell out what `kind_of` abbreviates."""
  blocks = [op for op in ops if isinstance(op, MBConv)]
  expands = sorted({op.expand for op in blocks})
  entries: Legend = []
  if expands:
    names = ", ".join(f"MB{expand}" for expand in expands)
    numbers = ", ".join(map(str, expands))
    entries.append((f"{names}: MBConv, expansion {numbers}", None))
  if any(op.squeeze for op in blocks):
    entries.append(("SE: squeeze-and-excitation", None))
  return entries
