"""What a compiled program exchanges between devices, read from its text.

    exchanged(jax.jit(step).lower(...).compile().as_text(), {7: 2, 3: 0})

The text is that after XLA's optimisations, so what is counted is what runs:
sums that were merged, moved or dropped are counted as they ended up. A loop's
body counts as often as the loop runs, and of a conditional only the branch that
is taken: a conditional is told from another by its number of branches, which is
enough for supernets, whose conditionals choose among candidates or families. A
loop whose length is not in the text is one over the parts of a candidate.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

KINDS = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
)
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) .*\{$")
# A shape has no blank before a word with a bracket, so the first is the opcode.
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\(")
_SHAPE = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,<=]*)\]")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_OP_NAME = re.compile(r'op_name="([^"]*)"')


class Collective(NamedTuple):
  """An exchange between devices.

  Attributes:
    kind: one of `KINDS`.
    shapes: shapes of the arrays, as XLA writes them, such as 'f32[2,16]'; of
      the whole arrays where devices put in or get parts of them.
    source: the names of the traced functions and primitives that it is from.
  """

  kind: str
  shapes: tuple[str, ...]
  source: str

  @property
  def bytes(self) -> int:
    """Of the arrays, on one device; what the wires carry is another matter."""
    return sum(map(bytes_of, self.shapes))


@dataclasses.dataclass(frozen=True)
class Instruction:
  """A line of a program.

  Attributes:
    name: within its computation.
    shapes: shapes of the result; several for a tuple.
    opcode: 'all-reduce', 'fusion', ...
    operands: the shapes of what it is applied to.
    rest: rest of the line, after the opcode's bracket.
  """

  name: str
  shapes: tuple[str, ...]
  opcode: str
  operands: tuple[str, ...]
  rest: str


def exchanged(
  text: str, branches: Mapping[int, int], turns: int | None = None
) -> Counter[Collective]:
  """The collectives of one execution, and how often each is run.

  Args:
    text: `compiled.as_text()`.
    branches: which branch is taken, by a conditional's number of branches; not
      needed for conditionals whose branches exchange the same.
    turns: how often loops of unknown length are run.

  Raises:
    ValueError: for a conditional that `branches` does not name, and for a loop
      of unknown length without `turns`, if they exchange anything.
  """
  return _Reader(text, collective, branches, turns).read()


def largest(text: str, turns: int | None = None) -> Counter[Collective]:
  """As `exchanged`, along the branches that exchange the most bytes."""
  return _Reader(text, collective, total_bytes, turns).read()


class Cycles(NamedTuple):
  """What TPUs' compiler expects of an instruction: cycles of the chip."""

  number: int


def most_cycles(text: str) -> int:
  """Cycles that TPUs' compiler expects, along the branches of the most.

  Args:
    text: `compiled.as_text()` of a program for a TPU.
  """
  return _cycles(_Reader(text, _expected, _cycles).read())


def _expected(instruction: Instruction) -> Cycles | None:
  found = _CYCLES.search(instruction.rest)
  return Cycles(int(found[1])) if found else None


def _cycles(seen: Counter[Cycles]) -> int:
  return sum(one.number * times for one, times in seen.items())


def executed(
  text: str, see: Callable[[Instruction], NamedTuple | None]
) -> Counter:
  """What one execution does, of a program without choices or loops.

  Args:
    text: text of a program, compiled or only lowered.
    see: gives what is to be counted of an instruction, None for nothing.
  """
  return _Reader(text, see, {}).read()


def total_bytes(collectives: Counter[Collective]) -> int:
  """Bytes of all the arrays that are exchanged."""
  return sum(one.bytes * times for one, times in collectives.items())


def collective(instruction: Instruction) -> Collective | None:
  """The exchange that an instruction is or starts; None for any other."""
  kind = instruction.opcode.removesuffix("-start")
  if kind not in KINDS:
    return None
  shapes = instruction.shapes
  if kind == "reduce-scatter":
    shapes = instruction.operands
  elif kind == "collective-permute" and instruction.opcode != kind:
    shapes = shapes[1:2]  # (operand, result, contexts)
  elif kind == "all-gather" and instruction.opcode != kind:
    shapes = shapes[len(shapes) // 2 :]  # (operands, results)
  source = _OP_NAME.search(instruction.rest)
  return Collective(kind, shapes, source[1] if source else "")


class _Reader:
  """The computations of a program, and what each of them does."""

  def __init__(
    self,
    text: str,
    see,
    branches: Mapping[int, int] | Callable,
    turns: int | None = None,
  ):
    """`branches`: which are taken, or the size of what one does."""
    self.computations, self.entry = _parse(text)
    self.turns = turns
    self.see = see
    self.branches = branches
    self.of = functools.cache(self._of)

  def read(self) -> Counter:
    return self.of(self.entry)

  def _of(self, computation: str) -> Counter:
    total = Counter()
    for each in self.computations[computation]:
      seen = self.see(each)
      if seen is not None:
        total[seen] += 1
      elif each.opcode == "while":
        total += self._of_loop(each)
      elif each.opcode == "conditional":
        total += self._of_conditional(each)
      elif each.opcode in ("call", "fusion", "async-start"):
        for called in _called(each, "calls", "to_apply"):
          total += self.of(called)
    return total

  def _of_loop(self, loop: Instruction) -> Counter:
    once = Counter()
    for called in _called(loop, "condition", "body"):
      once += self.of(called)
    if not once:
      return once
    found = _TRIPS.search(loop.rest)
    turns = int(found[1]) if found else self.turns
    if turns is None:
      raise ValueError(
        f"{loop.name}: a loop that exchanges, of unknown length; expected a "
        "known_trip_count: a scan, or a fori_loop between constants; or `turns`"
      )
    return Counter({one: n * turns for one, n in once.items()})

  def _of_conditional(self, conditional: Instruction) -> Counter:
    names = _called(conditional, "branch_computations")
    # A predicate's branches are numbered as integers would be: false, true.
    names = names or _called(
      conditional, "false_computation", "true_computation"
    )
    options = [self.of(name) for name in names]
    if callable(self.branches):
      return max(options, key=self.branches)
    if all(_arrays(option) == _arrays(options[0]) for option in options):
      return options[0]
    if len(names) not in self.branches:
      raise ValueError(
        f"{conditional.name}: {len(names)} branches that exchange different "
        f"arrays; expected `branches` to say which of {len(names)} is taken, "
        f"but it is {dict(self.branches)}"
      )
    return options[self.branches[len(names)]]


def _parse(text: str) -> tuple[dict[str, list[Instruction]], str]:
  """Instructions by computation, and which computation is the program."""
  computations, entry, current, shapes = {}, None, [], {}
  for line in text.splitlines():
    if found := _COMPUTATION.match(line):
      current, shapes = computations.setdefault(found[2], []), {}
      entry = found[2] if found[1] else entry
    elif found := _INSTRUCTION.match(line):
      name, shape, opcode = found.groups()
      rest = line[found.end() :]
      shapes[name] = _shapes_in(shape)
      names = re.findall(r"[\w.\-]+", rest.split(")")[0])
      operands = tuple(s for name in names for s in shapes.get(name, ()))
      current.append(Instruction(name, shapes[name], opcode, operands, rest))
  if entry is None:
    raise ValueError(
      "text: no ENTRY computation; expected that of `compiled.as_text()`"
    )
  return computations, entry


def _shapes_in(text: str) -> tuple[str, ...]:
  return tuple(f"{dtype}[{sizes}]" for dtype, sizes in _SHAPE.findall(text))


def _called(instruction: Instruction, *attributes: str) -> list[str]:
  """The computations that attributes name, in the order of the attributes."""
  names = []
  for attribute in attributes:
    found = re.search(
      rf"\b{attribute}=(\{{[^}}]*\}}|[^,\s]+)", instruction.rest
    )
    if found:
      names += re.findall(r"[\w.\-]+", found[1])
  return names


def _arrays(collectives: Counter[Collective]) -> Counter:
  """What is exchanged, wherever in the source that comes from."""
  total = Counter()
  for one, times in collectives.items():
    total[one.kind, one.shapes] += times
  return total


def bytes_of(shape: str) -> int:
  """Of an array such as 'bf16[8,16]'."""
  dtype, sizes = _SHAPE.fullmatch(shape).groups()
  bits = 8 if dtype == "pred" else int(re.search(r"\d+", dtype)[0])
  length = math.prod(int(n) for n in re.findall(r"\d+", sizes))
  return -(-bits * length // 8)
