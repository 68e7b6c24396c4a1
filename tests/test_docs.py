"""The documentation: its examples run, its links and names exist."""

import collections
import importlib
import json
import pathlib
import re
import runpy

import jax
import numpy as np
import pytest
from PIL import Image

import proxyless_jax as pj
from proxyless_jax.hardware import parse_quantity
from proxyless_jax.run.config.options import as_json, parse
from proxyless_jax.run.storage.variables import keep_variables, on_host

ROOT = pathlib.Path(__file__).parent.parent
PAGES = sorted(
  path
  for pattern in ("*.md", "docs/*.md", "experiments/*.md")
  for path in ROOT.glob(pattern)
)
# The changelog lists names that are gone.
CURRENT = [path for path in PAGES if path.name != "CHANGELOG.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
# As in `nas/gates.py:draw`, `tests/nas/test_gates.py`, `pytest tests/nas`.
PLACE = re.compile(r"`(\w+/[\w/]+\.py)(?::(\w+))?`")
TESTS = re.compile(r"\btests/[\w/]+(?:\.py)?")

# As in `pj.nas.gates`, `proxyless_jax.exchange.onnx.to_onnx`.
NAME = re.compile(r"\b(?:pj|proxyless_jax)\.(\w+(?:\.\w+)*)")


def blocks(page: str) -> list[str]:
  """The Python blocks of a page."""
  text = (ROOT / page).read_text()
  return [code for kind, code in FENCE.findall(text) if kind == "python"]


def prose(path: pathlib.Path) -> str:
  return FENCE.sub("", path.read_text())


def anchors(path: pathlib.Path) -> set[str]:
  """What a link can point to: the headings as GitHub names them."""
  headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
  kept = re.compile(r"[^\w\- ]")
  return {kept.sub("", h.lower()).replace(" ", "-") for h in headings}


def run(block: str, names: dict) -> None:
  """Runs a block of a page, with `names` from the blocks before it."""
  exec(compile(block, "<documentation>", "exec"), names)


def ids(path):
  return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_links_lead_somewhere(path):
  for file, anchor in LINK.findall(prose(path)):
    target = (path.parent / file) if file else path
    assert target.exists(), file
    assert not anchor or anchor in anchors(target), f"{file}#{anchor}"


@pytest.mark.parametrize("path", CURRENT, ids=ids)
def test_files_and_functions_that_are_named_exist(path):
  text = path.read_text()
  for test in TESTS.findall(text):
    assert (ROOT / test).exists(), test
  for file, name in PLACE.findall(text):
    places = [top / file for top in (ROOT, ROOT / "proxyless_jax")]
    found = [place for place in places if place.exists()]
    assert found, file
    if name and not file.startswith("configs/"):  # There it is a variant.
      defined = rf"^(def|class) {name}\b"
      assert re.search(defined, found[0].read_text(), re.MULTILINE), name


@pytest.mark.parametrize("path", CURRENT, ids=ids)
def test_names_of_python_exist(path):
  for name in sorted(set(NAME.findall(path.read_text()))):
    value, place = pj, "proxyless_jax"
    for part in name.split("."):
      place = f"{place}.{part}"
      if hasattr(value, part):
        value = getattr(value, part)
      else:
        value = importlib.import_module(place)


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_pages_are_wrapped(path):
  for line in prose(path).splitlines():
    may_be_long = line.lstrip().startswith(("|", "![")) or "`" in line
    may_be_long |= "](" in line or line.startswith("    ")
    assert may_be_long or len(line) <= 80, line


def test_the_picture_of_the_rooms_is_up_to_date():
  script = runpy.run_path(str(ROOT / "docs/rooms.py"))
  drawn = (ROOT / "docs/rooms.svg").read_text()
  assert script["picture"]() == drawn, "run: python docs/rooms.py"


@pytest.fixture
def checked_search(tmp_path, monkeypatch):
  """Jobs have tests of their own; here a config has to fit its space."""

  def check(config, workdir, **own):
    assert own.keys() <= {"draw", "terms", "tx", "arch_tx"}
    parse(config).make_space(classes=10)
    return collections.defaultdict(float)

  monkeypatch.setattr(pj, "search", check)
  monkeypatch.chdir(tmp_path)


def test_the_package_in_python(checked_search, quick_compilation):
  names = {}
  for block in blocks("docs/python.md"):
    run(block, names)
  assert names["logits"].shape == (1, 1000)
  assert names["network"] == pj.load_network("network.json")


def test_extending(checked_search, quick_compilation):
  names = {}
  for block in blocks("docs/extend.md"):
    assert len(block.splitlines()) <= 40
    run(block, names)
    if "metrics" in names:
      metrics = jax.device_get(names.pop("metrics"))
      assert all(np.isfinite(mean.total) for mean in metrics.values())
      assert np.asarray(names.pop("state").arch).any()
  assert names["found"].is_architecture
  parse(names["config"])


@pytest.mark.parametrize(
  "page",
  [
    "docs/config.md",
    "docs/hardware.md",
    "docs/report.md",
    "docs/resume.md",
    "docs/searching.md",
  ],
)
def test_python_of_other_pages(page, checked_search):
  names = {"__name__": "__main__"}
  for block in blocks(page):
    run(block, names)


@pytest.fixture
def ended_run(tmp_path, monkeypatch):
  """What an evaluation leaves in runs/mnist; the weights are not trained."""
  workdir = tmp_path / "runs" / "mnist"
  workdir.mkdir(parents=True)
  options = parse(pj.configs.mnist.get_config("quick"))
  space = options.make_space(classes=10)
  network = space.choose([0] * len(space.edges))
  variables = pj.init(pj.build(network), jax.random.key(0))
  scores = dict(top1=0.1, loss=2.3, images=1000)
  network.to_json(workdir / "architecture.json")
  keep_variables(workdir, network, on_host(variables), scores)
  for name, content in {
    "config": as_json(options),
    "classes": list("0123456789"),
    "result": scores,
  }.items():
    (workdir / f"{name}.json").write_text(json.dumps(content))
  for name in ("photo.jpg", "scan.png"):
    Image.new("RGB", (40, 30)).save(tmp_path / name)
  monkeypatch.chdir(tmp_path)


def test_readme(ended_run, quick_compilation, capsys):
  (block,) = blocks("README.md")
  run(block, {})
  assert len(capsys.readouterr().out.splitlines()) == 2


def test_using(ended_run, quick_compilation, capsys):
  names = {}
  for block in blocks("docs/using.md"):
    run(block, names)
  printed = capsys.readouterr().out.splitlines()
  assert len(printed) == 2 and printed[0][0] in "0123456789"
  assert names["logits"].shape == (1, 10)
  assert names["kernel"].shape == (3, 3, 1, 8)


def test_tutorial(ended_run, checked_search, quick_compilation, capsys):
  pytest.importorskip("onnxruntime")
  names = {}
  for block in blocks("docs/tutorial.md"):
    run(block, names)
  assert names["logits"].shape == (10, 10)
  printed = capsys.readouterr().out
  assert "test accuracy 10.00 %" in printed and "digits.onnx" in printed


def test_photos(ended_run, quick_compilation, capsys):
  config_file, predicting = blocks("docs/photos.md")
  names = {}
  run(config_file, names)
  options = parse(names["get_config"]())
  table = pj.cost_table("macs", options.make_space(classes=3))
  target = parse_quantity(
    options.search.costs["hardware"].reference, table.unit
  )
  assert table.min_cost < target < table.max_cost
  pathlib.Path("runs/mnist").rename("runs/photos")
  run(predicting, names)
  printed = capsys.readouterr().out.splitlines()
  assert len(printed) == 10 and all(line.endswith("%") for line in printed)


def test_published_networks(tmp_path, quick_compilation, monkeypatch):
  pytest.importorskip("torch")
  monkeypatch.chdir(tmp_path)
  network = pj.zoo("proxyless_gpu")
  # Files as the authors write them.
  of_chain = runpy.run_path(str(ROOT / "tests/space/conftest.py"))["of_chain"]
  description = json.dumps(of_chain(network))
  pathlib.Path("proxyless_gpu.config").write_text(description)
  variables = pj.init(pj.build(network), jax.random.key(0))
  pj.write_torch("proxyless_gpu.pth", pj.to_torch(network, variables))
  names = {}
  for block in blocks("docs/networks.md"):
    run(block, names)
  assert names["small"].classes == 10 and names["small"].image_size == 96
  assert names["logits"].shape == (1, 1000)
  kept, written = map(pj.read_torch, ("proxyless_gpu.pth", "mine.pth"))
  assert all((kept[name] == written[name]).all() for name in kept)


def test_every_page_with_code_is_run():
  tested = set(re.findall(r'"(\S+\.md)"', pathlib.Path(__file__).read_text()))
  with_code = {ids(page) for page in CURRENT if blocks(ids(page))}
  assert with_code <= tested


def test_exporting(ended_run, quick_compilation, capsys):
  pytest.importorskip("onnxruntime")
  names = {}
  for block in blocks("docs/export.md"):
    run(block, names)
  assert names["logits"].shape == (3, 10)
  printed = capsys.readouterr().out.splitlines()
  assert len(printed) == 5 and "; in int8, test accuracy" in printed[3]
  assert names["result"]["images"] == 4000


def test_why_banks(capsys):
  (block,) = blocks("docs/architecture.md")
  run(block, {})
  expected = block.rpartition("# ")[2].strip()
  assert capsys.readouterr().out.strip() == expected
