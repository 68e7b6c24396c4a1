"""What the packages import: the method alone needs only JAX, Flax, Optax."""

import ast
import pathlib
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


def imported(path):
  """Dotted names that a file imports, wherever in it, relative ones resolved.

  `from a import b` counts as `a.b`, which is a module or a name in `a`.
  """
  package = (ROOT.name, *path.relative_to(ROOT).parent.parts)
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      above = package[: len(package) - node.level + 1] if node.level else ()
      base = [*above, *filter(None, [node.module])]
      yield from (".".join([*base, alias.name]) for alias in node.names)


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


def test_space_needs_only_the_standard_library():
  for path in (ROOT / "space").rglob("*.py"):
    roots = {name.partition(".")[0] for name in imported(path)}
    assert roots <= sys.stdlib_module_names | {ROOT.name}, path
