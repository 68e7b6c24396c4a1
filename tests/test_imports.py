"""What the packages import: the method alone needs only JAX, Flax, Optax."""

import ast
import functools
import graphlib
import importlib
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import proxyless_jax

ROOT = pathlib.Path(proxyless_jax.__path__[0])

# What each room may import besides itself. The search reads cost tables; ONNX
# Runtime measures what exchange exports.
ALLOWED = {
  "space": set(),
  "parallel": set(),
  "nn": {"space", "parallel"},
  "training": {"space", "parallel", "nn"},
  "exchange": {"space", "nn"},
  "hardware": {"space", "nn", "exchange"},
  "nas": {"space", "parallel", "nn", "training", "hardware"},
  "data": set(),
  "report": {"space"},
}
ALLOWED["run"] = set(ALLOWED)
ALLOWED["main"] = set(ALLOWED) | {"the whole package"}
ALLOWED["__main__"] = {"main"}
ALLOWED["__init__"] = set(ALLOWED) - {"main"}

# Floors of rooms, from the lowest up: a file imports none of a higher floor. A
# file is on the floor that has the first part of its path in the room.
FLOORS = {
  "space": (
    {"suggest", "checks", "edge"},
    {"ops"},
    {"codec", "table", "networks"},
    {"spaces", "net_config", "files"},
    {"zoo"},
  ),
  "nn": ({"cpu_kernels"}, {"layers"}, {"ops"}, {"supernet"}, {"networks"}),
  # Between them: the loop, the stages, and what both need.
  "run": ({"config", "hosts", "storage"}, set(), {"jobs", "measuring"}),
}

IMPORT_WITHOUT = """
import importlib, pkgutil, sys

BLOCKED = {
  "PIL", "grain", "matplotlib", "ml_collections", "mlxtend", "onnx",
  "onnxruntime", "tensorboardX", "tensorflow", "tensorflow_datasets", "torch",
}

class Blocker:
  def find_spec(self, name, path=None, target=None):
    if name.partition(".")[0] in BLOCKED:
      raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
for part in ("space", "parallel", "nn", "training", "nas", "hardware"):
  package = importlib.import_module(f"proxyless_jax.{part}")
  for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
# What is measured on a machine without them.
importlib.import_module("experiments.on_gpu")
for name in ("depthwise", "latency", "steps", "switch"):
  importlib.import_module(f"experiments.gpu.{name}")
assert not BLOCKED & set(sys.modules)
"""


def modules():
  return sorted(ROOT.rglob("*.py"))


def part_of(path):
  """The part of the package that a file belongs to: "space", "main", …"""
  return path.relative_to(ROOT).with_suffix("").parts[0]


@functools.cache
def imported(path):
  """Dotted names that a file imports, wherever in it, relative ones resolved.

  `from a import b` counts as `a.b`, which is a module or a name in `a`.
  """
  package = (ROOT.name, *path.relative_to(ROOT).parent.parts)
  names = []
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      above = package[: len(package) - node.level + 1] if node.level else ()
      base = [*above, *filter(None, [node.module])]
      names += [".".join([*base, alias.name]) for alias in node.names]
  return names


def file_of(name):
  """The file of a module, or of the module that defines a name; or None.

  A name that a package passes on belongs to the module that the package has it
  from.
  """
  room, *parts = name.split(".")
  if room != ROOT.name:
    return None
  path = ROOT.joinpath(*parts)
  if path.with_suffix(".py").exists():
    return path.with_suffix(".py")
  if path.is_dir():
    return path / "__init__.py"
  if path.parent.with_suffix(".py").exists():
    return path.parent.with_suffix(".py")
  package = path.parent / "__init__.py"
  passed_on = [n for n in imported(package) if n.endswith(f".{parts[-1]}")]
  return file_of(passed_on[0]) if passed_on else package


def arrows():
  """The files of the package that each of its files imports."""
  return {
    path: {file_of(name) for name in imported(path)} - {None, path}
    for path in modules()
  }


def floor_of(path):
  """The floor of a file in its room; None for a room without floors."""
  room, *parts = path.relative_to(ROOT).with_suffix("").parts
  floors = FLOORS.get(room)
  if floors is None or parts == ["__init__"]:
    return None
  found = [i for i, names in enumerate(floors) if parts[0] in names]
  assert found or set() in floors, f"{path}: say in FLOORS where it stands"
  return found[0] if found else floors.index(set())


def test_the_method_needs_no_data_or_report_libraries():
  done = subprocess.run(
    [sys.executable, "-c", IMPORT_WITHOUT],
    cwd=ROOT.parent,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
  "path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_imports_point_one_way(path):
  part = part_of(path)
  assert part in ALLOWED, f"{part}: say in ALLOWED what it may import"
  names = [name.split(".") for name in imported(path)]
  own = {(*n, "the whole package")[1] for n in names if n[0] == ROOT.name}
  wrong = own - ALLOWED[part] - {part}
  assert not wrong, f"{part} may not import {sorted(wrong)}"


def test_no_circle_of_files():
  try:
    graphlib.TopologicalSorter(arrows()).prepare()
  except graphlib.CycleError as error:
    circle = [path.relative_to(ROOT).as_posix() for path in error.args[1]]
    pytest.fail(f"files import each other: {' <- '.join(circle)}")


def test_no_file_imports_one_of_a_higher_floor():
  wrong = [
    f"{path.relative_to(ROOT)} imports {other.relative_to(ROOT)}"
    for path, others in arrows().items()
    for other in others
    if part_of(path) == part_of(other)
    and None not in (floor_of(path), floor_of(other))
    and floor_of(path) < floor_of(other)
  ]
  assert not wrong


def test_each_module_is_the_attribute_of_its_name():
  """No function hides a module, as in `import proxyless_jax.nas.gates as g`."""
  packages = pkgutil.walk_packages([ROOT], f"{ROOT.name}.")
  hidden = []
  for module in packages:
    parent, _, name = module.name.rpartition(".")
    if name == "__main__":  # Importing it runs the program.
      continue
    found = importlib.import_module(module.name)
    if getattr(sys.modules[parent], name) is not found:
      hidden.append(module.name)
  assert not hidden


def test_space_needs_only_the_standard_library():
  for path in (ROOT / "space").rglob("*.py"):
    roots = {name.partition(".")[0] for name in imported(path)}
    assert roots <= sys.stdlib_module_names | {ROOT.name}, path
