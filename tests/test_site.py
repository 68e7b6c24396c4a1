"""The site: its reference is complete, its figures are those of the results."""

import ast
import importlib
import inspect
import json
import pathlib
import re
import runpy
import types

import pytest

import proxyless_jax as pj
from proxyless_jax.run.config.sections import CostOptions
from proxyless_jax.run.config.space import SPACES, space_defaults

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"


def leaves(config, path=""):
  """The dotted names of a config's fields."""
  for name, value in config.items():
    if hasattr(value, "items") and value:
      yield from leaves(value, f"{path}{name}.")
    else:
      yield f"{path}{name}"


def test_the_page_of_the_config_is_up_to_date():
  script = runpy.run_path(str(DOCS / "config_reference.py"))
  written = (DOCS / "config.md").read_text()
  assert script["page"]() == written, "run: python docs/config_reference.py"


def test_the_page_of_the_config_has_every_field():
  page = (DOCS / "config.md").read_text()
  rows = re.findall(r"^\| `([\w.]+)` \| (.+) \| (.+) \| (.+) \|$", page, re.M)
  assert all(cell.strip() for row in rows for cell in row)
  named = [name for name, *_ in rows]
  expected = set(leaves(pj.configs.base.get_config()))
  # The family is described above the tables, the costs by names of their own.
  expected -= {"space.family", "search.costs"}
  for family in SPACES:
    expected |= {f"space.{name}" for name in space_defaults(family)}
  for name in inspect.signature(CostOptions).parameters:
    expected.add(f"search.costs.NAME.{name}")
  assert set(named) == expected


def documented():
  """Names and objects of the API pages, as `docs/site.py` reads them."""
  for page in ("api.md", "api_method.md"):
    text = (DOCS / page).read_text()
    for comment in re.findall(r"^<!-- api\n(.*?)^-->$", text, re.M | re.S):
      for line in comment.splitlines():
        name, _, target = line.partition(" = ")
        yield name, target or re.sub(r"^pj\b", "proxyless_jax", name)


def found(target):
  """The object of a dotted name, or an error."""
  parts = target.split(".")
  for i in range(len(parts), 0, -1):
    try:
      value = importlib.import_module(".".join(parts[:i]))
    except ModuleNotFoundError:
      continue
    for part in parts[i:]:
      value = getattr(value, part)
    return value
  raise AssertionError(target)


def test_public_names_are_declared():
  own = {
    name
    for name, value in vars(pj).items()
    if not name.startswith("_") and not inspect.ismodule(value)
    if getattr(value, "__module__", "").startswith("proxyless_jax")
  }
  assert own | {"configs"} == set(pj.__all__)


def test_the_api_has_every_public_name():
  targets = dict(documented())
  assert {f"pj.{name}" for name in pj.__all__} <= targets.keys()
  for name, target in targets.items():
    assert inspect.getdoc(found(target)), name


def test_the_api_has_what_the_pages_import():
  targets = {target for _, target in documented()}
  kept = re.compile(r"```python\n(.*?)```", re.S)
  for page in DOCS.glob("*.md"):
    for block in kept.findall(page.read_text()):
      for node in ast.walk(ast.parse(block)):
        if not isinstance(node, ast.ImportFrom):
          continue
        if not node.module.startswith("proxyless_jax"):
          continue
        for alias in node.names:
          name = f"{node.module}.{alias.name}"
          value = found(name)
          module = getattr(value, "__module__", name)
          assert {name, module, node.module} & targets or any(
            found(target) is value for target in targets
          ), f"{page.name}: {name}"


@pytest.fixture(scope="module")
def macro():
  path = ROOT / "experiments/results/nas_bench_macro_cpu.json"
  return json.loads(path.read_text())


def found_by(macro, algorithm, target):
  return [
    search["found"]
    for search in macro["searches"]
    if (search["algorithm"], search["target"]) == (algorithm, target)
  ]


def test_the_table_of_the_index_is_of_the_results(macro):
  page = (DOCS / "index.md").read_text()
  for random in macro["random"]:
    target = random["target"]
    found = found_by(macro, "additive", target)
    places = [
      f"{100 * network['rank'] / network['of']:.1f}" for network in found
    ]
    regrets = [f"{network['regret']:.2f}" for network in found]
    row = (
      f"| {target:.0f} M MACs | the best {listed(places)} % | "
      f"{listed(regrets)} | {random['all']['median_regret']:.2f} |"
    )
    assert row in page


ROWS = {
  "cpu": {
    "additive": "| additive: 4.5",
    "pairwise": "| of the same 400 losses",
    "lowest": "| of the same 400 paths",
    "evolution": "| evolution on the first",
    "full": "| by gradient, mode `full`",
    "two": "| the same, mode `two`",
    "reinforce": "| the same, REINFORCE",
  },
  "h200": {
    "additive": "| additive: losses",
    "pairwise": "| of the same 400 losses",
    "lowest": "| of the same 400 paths",
    "full": "| by gradient, mode `full`",
  },
}


@pytest.mark.parametrize("device", ROWS)
def test_the_tables_of_searches_are_of_the_results(device):
  path = ROOT / f"experiments/results/nas_bench_macro_{device}.json"
  results = json.loads(path.read_text())
  page = (DOCS / "searching.md").read_text().partition("On one NVIDIA H200")
  rows = page[0 if device == "cpu" else 2].splitlines()
  assert set(results["totals"]) == set(ROWS[device])
  for algorithm, begin in ROWS[device].items():
    (row,) = (row for row in rows if row.startswith(begin))
    total = results["totals"][algorithm]
    *_, searches, good, _, regret, _ = row.split("|")
    assert searches.split(",")[0].strip() == str(total["searches"])
    best = total["in_best_5_percent"], total["in_best_1_percent"]
    assert good == " {} ({}) ".format(*best)
    assert regret.startswith(f" {total['median_regret']:.2f}; ")
    for target in (40.0, 60.0, 80.0):
      found = found_by(results, algorithm, target)
      regrets = [network["regret"] for network in found]
      assert f"{min(regrets):.2f}" in regret
      assert f"{max(regrets):.2f}" in regret


def test_the_rule_without_a_search_is_of_the_results(macro):
  rows = (DOCS / "searching.md").read_text().splitlines()
  (rule,) = (row for row in rows if row.startswith("| no search: the most"))
  for random in macro["random"]:
    assert f"{random['rule']['regret']:.2f}" in rule


def listed(words):
  return f"{', '.join(words[:-1])} and {words[-1]}"


def test_links_and_equations_of_the_site():
  pytest.importorskip("mkdocs", reason="needs the extra docs")
  pytest.importorskip("latex2mathml", reason="needs the extra docs")
  site = runpy.run_path(str(DOCS / "site.py"))
  config = types.SimpleNamespace(nav=[{"Basics": [{"Terms": "glossary.md"}]}])

  def rewritten(markdown, uri):
    file = types.SimpleNamespace(src_uri=uri)
    page = types.SimpleNamespace(file=file)
    return site["on_page_markdown"](markdown, page=page, config=config)

  # Of a page in docs/, one at the root, and one in another folder.
  assert rewritten("[glossary.md](glossary.md#edge)", "data.md") == (
    "[Terms](glossary.md#edge)"
  )
  assert rewritten("![](../experiments/results/a.png)", "data.md") == (
    "![](experiments/results/a.png)"
  )
  assert rewritten("[x](docs/data.md)", "CONTRIBUTING.md") == "[x](data.md)"
  assert rewritten("[x](../README.md)", "experiments/README.md") == (
    "[x](../index.md)"
  )
  assert rewritten("```\n[x](docs/a.md)\n```\n", "CHANGELOG.md") == (
    "```\n[x](docs/a.md)\n```\n"
  )
  reference = rewritten("<!-- api\npj.build\n-->", "api.md")
  assert reference.startswith("::: proxyless_jax.build\n")
  html = '<div class="arithmatex">\\[a &lt; \\log b\\]</div>'
  math = site["on_page_content"](html)
  assert "<math" in math and "&#x0003C;" in math and "mspace" in math


def test_doctests_are_fenced():
  pytest.importorskip("griffe", reason="needs the extra docs")
  fence = runpy.run_path(str(DOCS / "docstrings.py"))["fence"]
  fenced = fence("Example:\n  >>> 1 + 1\n  2\n\nMore.")
  assert fenced == "Example:\n  ```pycon\n  >>> 1 + 1\n  2\n  ```\n\nMore."


def messages():
  """The texts of the package's strings, with ... for what is filled in."""
  for path in (ROOT / "proxyless_jax").rglob("*.py"):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.JoinedStr):
        parts = (getattr(value, "value", "...") for value in node.values)
        yield "".join(p if isinstance(p, str) else "..." for p in parts)
      elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def test_the_messages_of_troubleshooting_are_printed():
  known = "\n".join(messages())
  page = (DOCS / "troubleshooting.md").read_text()
  quoted = re.findall(r"^```text\n(.*?)\n```$", page, re.M | re.S)
  assert len(quoted) > 10
  for message in quoted:
    for part in re.split(r"\.\.\.", message):
      assert part.strip() in known, part
