"""The page itself: sections of HTML, and the data of its scripts."""

from __future__ import annotations

import datetime
import functools
import importlib.resources
import json
import os
import re
from collections.abc import Sequence
from html import escape
from typing import Any

from proxyless_jax.report.page.blocks import (
  block_table,
  values_table,
  zoo_table,
)
from proxyless_jax.report.page.charts import (
  Chart,
  sampled_chart,
  search_charts,
  train_charts,
)
from proxyless_jax.report.page.contents import Contents, read_contents
from proxyless_jax.report.page.plotly import packed_plotly
from proxyless_jax.report.page.sampled import sampled_paths, trained_sentence
from proxyless_jax.report.page.summary import (
  header,
  ledger_table,
  tiles,
  warning_list,
)
from proxyless_jax.report.page.timeline import timeline

FILE = "report.html"

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{css}</style>
</head>
<body>
<main>
{body}
</main>
<script type="application/json" id="data">{data}</script>
<script type="text/plain" id="plotly">{plotly}</script>
<script>
{js}</script>
</body>
</html>
"""
MOVED = "How the probabilities moved"
HINT = (
  "The charts of this report need Plotly, which is not installed: "
  "<code>pip install plotly</code>, then "
  "<code>python -m proxyless_jax.report {workdir}</code>"
)


def write_report(workdir: str | os.PathLike) -> str:
  """Writes `report.html` from the other files of a workdir.

  A kill, or a reader, finds the old file or the new one. Of several hosts, one
  calls.

  Args:
    workdir: folder of a run, which may be going on or have ended.

  Returns:
    The path of the file.

  Raises:
    ValueError: the folder has no run, or a file is not what it should be.
  """
  path = os.path.join(os.path.expanduser(workdir), FILE)
  text = render(read_contents(workdir))
  with open(path + ".tmp", "w", encoding="utf-8") as file:
    file.write(text)
  os.replace(path + ".tmp", path)
  return path


def render(contents: Contents) -> str:
  """The page as text."""
  plotly, moved = packed_plotly(), timeline(contents)
  page = _Page(draws=plotly is not None)
  sections = [
    header(contents, datetime.datetime.now()),
    warning_list(contents),
    tiles(contents),
    _found(contents),
    _moved(contents, moved),
    page.charts("The search", search_charts(contents)),
    _sampled(contents, page),
    page.charts("The training", train_charts(contents)),
    _section("What it cost", ledger_table(contents)),
    _config(contents),
  ]
  if page.left_out:
    hint = HINT.format(workdir=escape(contents.workdir))
    sections.insert(2, f'<p class="note" id="hint">{hint}</p>')
  data = {"charts": page.drawn, "timeline": moved}
  return PAGE.format(
    title=escape(f"{_name(contents)} · proxyless_jax"),
    css=_asset("page.css"),
    body="\n".join(section for section in sections if section),
    # A name could end the script, or begin a comment in it.
    data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
    plotly=(plotly or "") if page.drawn else "",
    js=_asset("page.js"),
  )


@functools.cache
def _asset(name: str) -> str:
  folder = importlib.resources.files("proxyless_jax.report.page")
  return folder.joinpath(name).read_text(encoding="utf-8")


def _name(contents: Contents) -> str:
  return os.path.basename(os.path.abspath(contents.workdir))


def _section(title: str, body: str) -> str:
  return f"<section><h2>{title}</h2>{body}</section>" if body else ""


def _found(contents: Contents) -> str:
  """The architecture: its figure, and a table of its blocks."""
  if not contents.architecture:
    return ""
  figure = ""
  if contents.svg:
    # What comes before belongs to a file of its own.
    svg = contents.svg[contents.svg.index("<svg") :]
    figure = f'<div class="scroll paper">{_sized(svg)}</div>'
  table = block_table(contents) or (
    "<p>The network has operations of your own, which this process does not "
    "know, so that its blocks are not counted.</p>"
  )
  many = "</tbody>" in table and table.count("<tr") > 26
  if many:
    table = f"<details><summary>Block by block</summary>{table}</details>"
  title = "The found network" if contents.searched else "The network"
  return _section(title, figure + table + zoo_table(contents))


def _sized(svg: str) -> str:
  """An SVG as wide as there is room, within what can be read well."""
  head, rest = svg.split(">", 1)
  match = re.search(r'width="([\d.]+)pt"', head)
  style = "width:100%"
  if match:
    points = float(match[1])  # Of 4/3 pixels each, as the figure is made.
    style += f";min-width:{1.1 * points:.0f}px;max-width:{1.5 * points:.0f}px"
  head = re.sub(r'\s(width|height)="[^"]*"', "", head)
  return f'{head} style="{style}" role="img">{rest}'


def _moved(contents: Contents, moved: dict[str, Any] | None) -> str:
  """The timeline of the probabilities, and the values of an additive model."""
  values = _section("What each candidate adds", values_table(contents))
  if moved is None:
    return values or _not_moved(contents)
  return values + _section(
    MOVED,
    '<div class="controls"><button id="play" type="button">Play</button>'
    '<input id="slider" type="range" min="0" step="1" '
    'aria-label="step of the search"><output id="step"></output></div>'
    '<div class="scroll" id="moved"></div><div id="legend"></div>',
  )


def _not_moved(contents: Contents) -> str:
  """Why there is no timeline."""
  if not contents.searched or not contents.metrics:
    return ""
  method = contents.config.get("derive", {}).get("method", "argmax")
  text = "This run has no record of alpha (alpha.jsonl)."
  if method != "argmax":
    text = (
      "This search trains no alpha: its network comes from the losses of paths "
      f"(derive.method = {method!r})."
    )
  return _section(MOVED, f'<p class="note">{escape(text)}</p>')


class _Page:
  """The charts of a page, numbered as they are placed.

  Attributes:
    drawn: charts that were placed.
    left_out: whether some were not, since nothing can draw them.
  """

  def __init__(self, draws: bool) -> None:
    """Begins without charts; `draws`: whether there is a library for them."""
    self._draws, self.left_out = draws, False
    self.drawn: list[Chart] = []

  def figure(self, chart: Chart) -> str:
    """The HTML of a chart; '' where it is left out."""
    if not self._draws:
      self.left_out = True
      return ""
    self.drawn.append(chart)
    title = f"<figcaption>{escape(chart['title'])}</figcaption>"
    return (
      f"<figure>{title if chart['title'] else ''}"
      f'<div class="chart" data-chart="{len(self.drawn) - 1}"></div></figure>'
    )

  def charts(self, title: str, charts: Sequence[Chart]) -> str:
    """The HTML of a section of charts."""
    figures = "".join(map(self.figure, charts))
    return _section(title, figures and f'<div class="charts">{figures}</div>')


def _sampled(contents: Contents, page: _Page) -> str:
  """The found network among others of its space."""
  sampled, chart = sampled_paths(contents), sampled_chart(contents)
  trained = trained_sentence(contents)
  body = f"<p>{escape(trained)}</p>" if trained else ""
  if sampled is not None and chart is not None:
    body += f"<p>{escape(sampled.sentence)}</p>{page.figure(chart)}"
  if not body and contents.finished and contents.searched:
    body = (
      '<p class="note">No other networks were evaluated: '
      "<code>config.derive.compare</code> compares the found one with random "
      "ones, and job <code>random</code> trains some.</p>"
    )
  return _section("Among other networks of the space", body)


def _config(contents: Contents) -> str:
  text = escape(json.dumps(contents.config, indent=2))
  return f"<details><summary>config.json</summary><pre>{text}</pre></details>"
