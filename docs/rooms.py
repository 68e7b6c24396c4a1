"""Draws the rooms of the package and their imports: `python docs/rooms.py`.

Rows come from the imports: a room stands below all rooms that import from it,
so every arrow points down. Where each room stands in its row, and what is
written in it, is said in `ROOMS`. The picture is docs/rooms.svg.
"""

from __future__ import annotations

import ast
import html
import itertools
import pathlib
from collections import defaultdict
from typing import NamedTuple

DOCS = pathlib.Path(__file__).resolve().parent
PACKAGE = DOCS.parent / "proxyless_jax"
PICTURE = DOCS / "rooms.svg"

# First and last lane of each room, its colour, and what it is for.
ROOMS = {
  "main": (0, 8, "#f6f6f4", "the command line"),
  "configs": (10, 17, "#f6f6f4", "recipes"),
  "__init__": (19, 28, "#f6f6f4", "import proxyless_jax as pj"),
  "run": (0, 28, "#e8e4f3", "jobs, the loop, configs, files, hosts"),
  "nas": (2, 21, "#fbe3d0", "the method: gates, both steps, derivation"),
  "hardware": (11, 18, "#fdf0c8", "tables of costs"),
  "training": (3, 8, "#fbe3d0", "supervised training"),
  "exchange": (14, 17, "#dcebdc", "PyTorch, ONNX"),
  "nn": (5, 15, "#d8e8f5", "modules of supernets and networks"),
  "report": (23, 25, "#dcebdc", "figures"),
  "parallel": (0, 6, "#d8e8f5", "devices, collectives"),
  "space": (8, 24, "#d8e8f5", "descriptions of networks and spaces"),
  "data": (26, 28, "#dcebdc", "images"),
}
LANE, ROW, HEIGHT, LEFT, TOP = 34, 122, 74, 24, 24
INK, PALE = "#333a45", "#a9a6b8"
FONT = "font-family='Helvetica, Arial, sans-serif'"


class Arrow(NamedTuple):
  """`files` files of `source` import from `target`."""

  source: str
  target: str
  files: int


class Box(NamedTuple):
  """Where a room stands: lanes first to last, and its row from the top."""

  first: int
  last: int
  row: int

  @property
  def top(self) -> int:
    return TOP + self.row * ROW


def read_arrows(folder: pathlib.Path) -> list[Arrow]:
  """The imports between the parts (files and folders) of a package."""
  files = defaultdict(set)
  linked = (folder / "configs").glob("*.py")  # `rglob` leaves out links.
  for path in sorted({*folder.rglob("*.py"), *linked}):
    source = path.relative_to(folder).with_suffix("").parts[0]
    for target in imported_parts(path, folder):
      if target != source:
        files[source, target].add(path)
  return [Arrow(*pair, len(paths)) for pair, paths in sorted(files.items())]


def imported_parts(path: pathlib.Path, folder: pathlib.Path) -> set[str]:
  """The parts of the package in `folder` that a file imports from."""
  prefix = ".".join(folder.relative_to(PACKAGE.parent).parts) + "."
  names = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      names |= {f"{node.module}.{alias.name}" for alias in node.names}
  inside = [n.removeprefix(prefix) for n in names if n.startswith(prefix)]
  parts = {name.split(".")[0] for name in inside}
  return {part for part in parts if exists(folder, part)}


def exists(folder: pathlib.Path, part: str) -> bool:
  """Whether a package has a module or folder of that name."""
  return (folder / part).is_dir() or (folder / f"{part}.py").is_file()


def levels(parts: list[str], arrows: list[Arrow]) -> dict[str, int]:
  """How many rooms each stands above the lowest one.

  Raises:
    ValueError: rooms import each other in a circle.
  """
  level, left = {}, set(parts)
  for number in itertools.count():
    if not left:
      return level
    ready = {
      part
      for part in left
      if not any(a.source == part and a.target in left for a in arrows)
    }
    if not ready:
      raise ValueError(f"{sorted(left)} import each other in a circle")
    level |= dict.fromkeys(ready, number)
    left -= ready


def subrooms(room: str) -> list[str]:
  """The folders in a room; one that imports from others comes before them."""
  folder = PACKAGE / room
  if not folder.is_dir():
    return []
  names = sorted(p.parent.name for p in folder.glob("*/__init__.py"))
  arrows = [a for a in read_arrows(folder) if {a.source, a.target} <= {*names}]
  level = levels(names, arrows)
  return sorted(names, key=lambda name: (-level[name], name))


def choose_lanes(arrows: list[Arrow], boxes: dict[str, Box]) -> dict:
  """A lane for each arrow, behind as few rooms as possible.

  Raises:
    ValueError: two rooms have no free lane in common.
  """
  chosen, taken = {}, set()

  def free_lanes(arrow):
    a, b = boxes[arrow.source], boxes[arrow.target]
    lanes = range(max(a.first, b.first), min(a.last, b.last) + 1)
    rows = range(a.row, b.row)
    free = [n for n in lanes if not taken & {(n, row) for row in rows}]
    # In the middle of the target, where nothing else decides.
    off_middle = {n: abs(2 * n - b.first - b.last) for n in free}
    return sorted(
      free, key=lambda n: (len(behind(n, a.row, b.row, boxes)), off_middle[n])
    )

  def few_first(arrow):
    return arrow.source == "run", len(free_lanes(arrow))

  for arrow in sorted(arrows, key=few_first):
    if not free_lanes(arrow):
      raise ValueError(f"{arrow}: no free lane: widen one of both in ROOMS")
    lane = free_lanes(arrow)[0]
    chosen[arrow] = lane
    rows = range(boxes[arrow.source].row, boxes[arrow.target].row)
    taken |= {(lane, row) for row in rows}
  return chosen


def behind(lane: int, top: int, bottom: int, boxes: dict[str, Box]) -> list:
  """The rooms that an arrow in a lane would pass behind."""
  return [
    room
    for room, box in boxes.items()
    if top < box.row < bottom and box.first <= lane <= box.last
  ]


def draw_arrow(arrow: Arrow, lane: int, boxes: dict[str, Box]) -> str:
  """A line down to the target's top edge, with its head."""
  x = LEFT + lane * LANE + LANE / 2
  top, end = boxes[arrow.source].top + HEIGHT, boxes[arrow.target].top
  colour = PALE if arrow.source == "run" else INK
  width = 1.2 + 0.35 * min(arrow.files, 12)
  tip = 5 + width
  return (
    f"<path d='M{x:g} {top}V{end - 8}' stroke='{colour}' "
    f"stroke-width='{width:.1f}'/>\n"
    f"<path d='M{x:g} {end}l{-tip:.1f} -11h{2 * tip:.1f}z' fill='{colour}'/>"
  )


def draw_number(arrow: Arrow, lane: int, boxes: dict[str, Box]) -> str:
  """The number beside the head of an arrow."""
  x, y = LEFT + lane * LANE + LANE / 2, boxes[arrow.target].top - 18
  colour = "#77738c" if arrow.source == "run" else INK
  return label(x + 6, y, str(arrow.files), 12, colour, "start")


def draw_room(room: str, box: Box) -> str:
  """A box with name, purpose, and the folders inside."""
  *_, colour, purpose = ROOMS[room]
  left = LEFT + box.first * LANE
  width = (box.last - box.first + 1) * LANE
  middle, inside = left + width / 2, subrooms(room)
  lines = [
    f"<rect x='{left}' y='{box.top}' width='{width}' height='{HEIGHT}' rx='7' "
    f"fill='{colour}' stroke='{INK}' stroke-width='1.2'/>",
    label(middle, box.top + (20 if inside else 32), room, 17, INK, bold=True),
    label(middle, box.top + (37 if inside else 52), purpose, 12.5, INK),
  ]
  chip = min(92, (width - 12) / max(len(inside), 1))
  start = middle - chip * len(inside) / 2
  for i, name in enumerate(inside):
    x = start + i * chip
    lines += [
      f"<rect x='{x + 3:g}' y='{box.top + 45}' width='{chip - 6:g}' "
      f"height='22' rx='4' fill='white' fill-opacity='0.75'/>",
      label(x + chip / 2, box.top + 60, name, 12, INK),
    ]
  return "\n".join(lines)


def label(x, y, text, size, colour, anchor="middle", bold=False) -> str:
  """A line of text as SVG."""
  weight = " font-weight='bold'" if bold else ""
  return (
    f"<text x='{x:g}' y='{y:g}' font-size='{size}' fill='{colour}' "
    f"text-anchor='{anchor}'{weight}>{html.escape(text)}</text>"
  )


def is_drawn(arrow: Arrow) -> bool:
  """Names that `__init__` only hands on would hide what depends on what."""
  if arrow.source == "__init__":
    return arrow.target == "run"
  return {arrow.source, arrow.target} <= ROOMS.keys()


def picture() -> str:
  """The text of docs/rooms.svg."""
  arrows = [a for a in read_arrows(PACKAGE) if is_drawn(a)]
  level = levels(list(ROOMS), arrows)
  highest = max(level.values())
  boxes = {
    room: Box(first, last, highest - level[room])
    for room, (first, last, *_) in ROOMS.items()
  }
  lanes = choose_lanes(arrows, boxes)
  width = 2 * LEFT + LANE * (1 + max(box.last for box in boxes.values()))
  height = max(box.top for box in boxes.values()) + HEIGHT + 2 * TOP + 12
  note = (
    "An arrow points from a room to one that it imports from; its number says "
    "how many of its files do. Pale arrows are those of run."
  )
  return "\n".join(
    [
      f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' "
      f"width='{width}' height='{height}' {FONT}>",
      "<rect width='100%' height='100%' fill='white'/>",
      *(draw_arrow(a, lane, boxes) for a, lane in lanes.items()),
      *(draw_room(room, box) for room, box in boxes.items()),
      *(draw_number(a, lane, boxes) for a, lane in lanes.items()),
      label(LEFT, height - 18, note, 12.5, INK, "start"),
      "</svg>\n",
    ]
  )


if __name__ == "__main__":
  PICTURE.write_text(picture())
