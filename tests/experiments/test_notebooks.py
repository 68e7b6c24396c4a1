"""The notebooks: each runs from top to bottom, and what it stores is small."""

import json
import os
import pathlib
import re

import pytest

import proxyless_jax as pj
from proxyless_jax.run.config.options import parse
from proxyless_jax.run.costs import check_targets, make_costs

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "experiments" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# What the cell with the tag `parameters` is changed to, by notebook.
SETTINGS = {
  "colab_tpu": {"smoke": True},
  "own_images": {"smoke": True},
  "reuse": {},
}
# The tag of a cell whose output is megabytes.
LARGE = "not-stored"
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#[^)\s]+)?\)")


def named(path):
  return path.stem


def read(path):
  return json.loads(path.read_text())


def tags(cell):
  return cell["metadata"].get("tags", [])


def source(cell):
  return "".join(cell["source"])


def inject(notebook, settings):
  """Adds a cell with other settings after the one that has them."""
  from nbformat.v4 import new_code_cell

  (at,) = (i for i, c in enumerate(notebook.cells) if "parameters" in tags(c))
  names = notebook.cells[at].source
  assert all(re.search(rf"^{name} = ", names, re.M) for name in settings)
  text = "\n".join(f"{name} = {value!r}" for name, value in settings.items())
  if settings:
    notebook.cells.insert(at + 1, new_code_cell(text, id="injected"))


def execute(path, folder):
  """The notebook after all its cells have run, in a folder of its own."""
  import nbclient
  import nbformat

  notebook = nbformat.read(path, as_version=4)
  inject(notebook, SETTINGS[path.stem])
  client = nbclient.NotebookClient(
    notebook,
    kernel_name="python3",
    record_timing=False,
    resources={"metadata": {"path": str(folder)}},
    timeout=600,
  )
  # Two devices share the batches of the notebook for eight.
  environment = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
  environment["IPYTHONDIR"] = str(folder / ".ipython")  # Not in the home.
  if path.stem == "colab_tpu":
    environment["JAX_NUM_CPU_DEVICES"] = "2"
  return client.execute(env={**os.environ, **environment})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_runs_from_top_to_bottom(path, tmp_path):
  for package in ("nbclient", "ipykernel", "mlxtend", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} (extra test) is missing")
  notebook = execute(path, tmp_path)
  pictures = [
    output
    for cell in notebook.cells
    for output in cell.get("outputs", [])
    if "image/png" in output.get("data", {})
  ]
  assert pictures


def config_of(notebook, **names):
  """The config of a notebook's whole form, which no test runs."""
  cells = {
    c["id"]: source(c) for c in read(FOLDER / f"{notebook}.ipynb")["cells"]
  }
  names |= {"pj": pj}
  for name in ("settings", "config"):
    exec(cells[name], names)
    names["smoke"] = False
  return parse(names["config"])


def test_the_whole_search_on_a_tpu_fits_eight_cores():
  options = config_of("colab_tpu", devices=8)
  space = options.make_space(classes=10)
  check_targets(make_costs(options.search.costs, space), space)
  assert options.search.batch % (8 * options.search.parts) == 0
  for batch in (options.search.arch.batch, options.train.batch):
    assert batch % 8 == 0


def test_the_whole_search_of_photos():
  options = config_of("own_images", folder="photos")
  assert options.data.image_size == 64
  assert options.make_space(classes=2).log10_size > 6


def test_every_notebook_has_its_settings():
  assert {path.stem for path in NOTEBOOKS} == SETTINGS.keys()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_what_is_stored(path):
  cells = read(path)["cells"]
  counts = [c["execution_count"] for c in cells if c["cell_type"] == "code"]
  assert counts == list(range(1, len(counts) + 1)), "run it from top to bottom"
  for cell in cells:
    for output in cell.get("outputs", []):
      assert LARGE not in tags(cell), cell["id"]
      text = "".join(output.get("text", ""))
      assert output["output_type"] != "error", cell["id"]
      assert not re.search(r"(^|[\s'\"])/\w+/|Warning", text), text
  pictures = [c for c in cells if "image/png" in json.dumps(c)]
  assert pictures, "run it, and keep the outputs"


def test_the_notebooks_are_small():
  assert sum(path.stat().st_size for path in NOTEBOOKS) < 1_000_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_prose(path):
  for cell in read(path)["cells"]:
    if cell["cell_type"] != "markdown":
      continue
    for file in LINK.findall(source(cell)):
      assert (path.parent / file).exists(), file
    for line in source(cell).splitlines():
      may_be_long = line.startswith("|") or "`" in line or "](" in line
      assert may_be_long or len(line) <= 80, line
