"""The report, without a browser."""

import html.parser
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from proxyless_jax.report.page import document, write_report
from tests.report.conftest import STEPS, alpha_at, write_end, write_search
from tests.spaces import widening_tree_space

VOID = {"meta", "input", "br", "path", "use"}


class Balanced(html.parser.HTMLParser):
  """Fails where an element is not closed, or another one is."""

  def __init__(self):
    super().__init__()
    self.open, self.text = [], []

  def handle_starttag(self, tag, attributes):
    del attributes
    if tag not in VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    if tag not in VOID:
      assert self.open.pop() == tag

  def handle_data(self, text):
    self.text.append(text)


@pytest.fixture(autouse=True)
def plotly(monkeypatch):
  """These tests do without the library."""
  monkeypatch.setattr(document, "packed_plotly", lambda: "packed")


def read(workdir):
  """The page's HTML, its visible text, and its data."""
  page = pathlib.Path(write_report(workdir)).read_text(encoding="utf-8")
  parser = Balanced()
  parser.feed(page)
  assert parser.open == []
  match = re.search(r'id="data">(.*?)</script>', page)
  return page, " ".join(parser.text), json.loads(match[1])


def test_it_tells_of_an_ended_search(workdir):
  page, text, data = read(workdir)
  assert "a <search>" in text
  assert "search finished" in text
  assert "98.70 %" in text
  assert "The search was too short: noise had a part." in text
  assert "The target of the cost 'hardware' was not met." in text
  assert "1m05s" in text and "512 MB" in text
  assert "lower than" in text and "of 30 random paths" in text
  assert "block01" in text
  titles = [chart["title"] for chart in data["charts"]]
  assert titles[:5] == [
    *("Loss", "Accuracy of drawn paths", "Entropy of the gates"),
    *("Cost: hardware", "Multiplier of hardware"),
  ]
  # The figure is part of the page, which loads nothing.
  assert page.count("<svg") == 1
  assert not re.search(r'(src|href)="(?!#|data:)', page)


def test_the_timeline_has_the_probabilities(workdir):
  _, _, data = read(workdir)
  timeline = data["timeline"]
  assert timeline["steps"] == list(range(1, STEPS + 1))
  assert timeline["ops"] == ["mbconv1_k3", "mbconv1_k5", "zero"]
  assert [edge["ops"] for edge in timeline["edges"]] == [[0, 1, 2]] * 2
  assert {len(frame) for frame in timeline["frames"]} == {12}
  # At the first step alpha is (0, 0.5, 1) on both edges.
  assert timeline["frames"][0] == "304e81" * 2


def test_values_of_the_additive_model_replace_the_timeline(tmp_path):
  write_end(tmp_path, write_search(tmp_path))
  (tmp_path / "alpha.jsonl").unlink()
  page, text, data = read(tmp_path)
  assert data["timeline"] is None
  assert "What each candidate adds" in text
  assert "How the probabilities moved" not in text
  # Of 0.1 each, and the last candidate was chosen on both edges.
  assert re.findall(r"<td( class=.best.)? style=[^>]*>(\d+)<", page) == 2 * [
    *(("", "100"), ("", "100"), (' class="best"', "100"))
  ]


def test_the_found_network_is_compared_with_random_ones(tmp_path):
  space = write_search(tmp_path)
  write_end(tmp_path, space)
  chosen = [len(edge.ops) - 1 for edge in space.edges]
  compared = {"paths": [[0, 0], [0, 1], chosen, chosen]}
  compared["loss"] = [0.9, 0.5, 0.7, 0.7]
  (tmp_path / "compared.json").write_text(json.dumps(compared))
  random = [{"top1": 0.98}, {"top1": 0.99}]
  (tmp_path / "random.json").write_text(json.dumps(random))
  _, text, data = read(tmp_path)
  assert "has a loss of 0.700 on held-out images" in text
  assert "than 1 of 2 others near the target." in text
  assert "2 random networks near the target reach 98.50 %" in text
  assert "the found one has 98.70 %, more than 1 of them" in text
  (chart,) = [chart for chart in data["charts"] if not chart["title"]]
  names = [trace["name"] for trace in chart["traces"]]
  assert names == ["random paths", "others near the target", "found"]
  assert chart["traces"][-1]["y"] == [0.7]
  search = json.loads((tmp_path / "search.json").read_text())
  del search["costs"]["hardware"]["target"]
  (tmp_path / "search.json").write_text(json.dumps(search))
  _, text, _ = read(tmp_path)
  assert "than 1 of 2 others." in text and "near the target" not in text


def test_it_says_where_an_unfinished_search_stands(tmp_path):
  write_search(tmp_path, steps=3)
  _, text, data = read(tmp_path)
  assert f"unfinished: search at step 3 of {STEPS}" in text
  assert "The found network" not in text
  assert len(data["timeline"]["frames"]) == 3


def test_a_tree_is_shown_by_blocks(tmp_path):
  space = widening_tree_space()
  write_end(tmp_path, write_search(tmp_path, space))
  _, text, data = read(tmp_path)
  assert (
    not set(re.findall(r"block\d+", text))
    - {"block01", "block02"}
    - {"block03"}
  )
  groups = [edge["group"] for edge in data["timeline"]["edges"]]
  assert sorted(set(groups)) == ["block01", "block02", "block03"]
  assert alpha_at(space, 1).shape[0] == len(groups)


def test_a_workdir_of_an_earlier_version(tmp_path):
  (tmp_path / "config.json").write_text('{"job": "search"}')
  lines = [{"stage": "search", "step": 5, "loss": "nan"}]
  (tmp_path / "metrics.jsonl").write_text(json.dumps(lines[0]) + "\n")
  _, text, data = read(tmp_path)
  assert "no record of alpha" in text
  assert "What each candidate adds" not in text
  assert data == {"charts": [], "timeline": None}


def test_without_plotly_it_says_how_to_get_charts(workdir, monkeypatch):
  monkeypatch.setattr(document, "packed_plotly", lambda: None)
  page, text, data = read(workdir)
  assert "pip install plotly" in text
  assert "98.70 %" in text
  assert "of 30 random paths" in text
  assert data["charts"] == [] and "<figure>" not in page


def test_a_reader_never_sees_half_a_file(workdir, monkeypatch):
  path = pathlib.Path(write_report(workdir))
  before = path.read_text()
  monkeypatch.setattr(document, "render", lambda contents: "new")

  def killed(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
      write_report(workdir)
  assert path.read_text() == before


def test_the_command(workdir, tmp_path):
  command = [sys.executable, "-m", "proxyless_jax.report"]
  done = subprocess.run(
    [*command, str(workdir)], capture_output=True, text=True, check=False
  )
  assert done.stdout.strip() == str(workdir / "report.html"), done.stderr
  done = subprocess.run(
    [*command, str(tmp_path)], capture_output=True, text=True, check=False
  )
  assert done.returncode == 1
  assert "expected the folder of a run" in done.stderr
  assert len(done.stderr.splitlines()) == 1
