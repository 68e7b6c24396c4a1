"""Hooks of MkDocs, which make the site from docs/ (`mkdocs.yml`).

Pages link to other files of the repository by relative paths, and have their
equations in LaTeX, as code hosts show them. In the site, a linked file from
outside docs/ has its path in the repository, and equations are MathML, which
browsers show without a script. Docstrings stand where a page has a comment

    <!-- api
    pj.build
    pj.search = proxyless_jax.run.jobs.search
    -->

with a name in each line, and, where it differs, the object with the docstring.
"""

from __future__ import annotations

import os
import pathlib
import posixpath
import re
from collections.abc import Iterator

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# Browsers set no space between a function and its argument.
FUNCTION = re.compile(r"<mi>(?:exp|log)</mi>")
THIN_SPACE = '<mspace width="0.17em" />'
ROOT = pathlib.Path(__file__).parent.parent
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)")
# A link whose text is the name of a page.
NAMED = re.compile(r"\[(\w+\.md)\](?=\()")
API = re.compile(r"^<!-- api\n(.*?)^-->$", re.MULTILINE | re.DOTALL)
# As `pymdownx.arithmatex` writes them.
MATH = re.compile(
  r'<(?P<tag>span|div) class="arithmatex">'
  r"\\[(\[](?P<latex>.*?)\\[)\]]</(?P=tag)>",
  re.DOTALL,
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
  """Adds the files outside docs/ that a page links to, pages with their own."""
  pages = [_in_repository(f.src_uri) for f in files.documentation_pages()]
  while pages:
    for path in _linked(pages.pop()):
      uri = _in_site(path)
      if files.get_file_from_path(uri) or not (ROOT / path).is_file():
        continue
      files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
      if path.endswith(".md"):
        pages.append(path)
  return files


def on_page_markdown(
  markdown: str, page: Page, config: MkDocsConfig, **_: object
) -> str:
  """Rewrites a page: its links, and the comments that docstrings replace."""
  uri = page.file.src_uri
  folder = posixpath.dirname(_in_repository(uri))

  def rewrite(link: re.Match) -> str:
    target = _in_site(posixpath.normpath(posixpath.join(folder, link[1])))
    return posixpath.relpath(target, posixpath.dirname(uri) or ".")

  titles = dict(_titles(config.nav))

  def entitle(link: re.Match) -> str:
    return f"[{titles.get(link[1], link[1])}]"

  parts = FENCE.split(markdown)
  for i, part in enumerate(parts[::2]):
    parts[2 * i] = LINK.sub(rewrite, NAMED.sub(entitle, part))
  return API.sub(_docstrings, "".join(parts))


def _titles(nav: list) -> Iterator[tuple[str, str]]:
  """The file and the title of each page of `nav` in mkdocs.yml."""
  for entry in nav:
    for title, inner in entry.items():
      if isinstance(inner, str):
        yield inner, title
      else:
        yield from _titles(inner)


def _docstrings(comment: re.Match) -> str:
  """What mkdocstrings replaces by the docstrings of an `api` comment."""
  blocks = []
  for line in comment[1].splitlines():
    name, _, target = line.partition(" = ")
    target = target or re.sub(r"^pj\b", "proxyless_jax", name)
    blocks.append(
      f"::: {target}\n    options: {{heading: {name}, toc_label: {name}}}\n"
    )
  return "\n".join(blocks)


def on_page_content(html: str, **_: object) -> str:
  """Turns the equations of a page into MathML."""

  def mathml(match: re.Match) -> str:
    display = "block" if match["tag"] == "div" else "inline"
    math = convert(_plain(match["latex"]).strip(), display=display)
    math = FUNCTION.sub(rf"<mrow>\g<0>{THIN_SPACE}</mrow>", math)
    # The theme scrolls a wide element of this class.
    return f'<{match["tag"]} class="arithmatex">{math}</{match["tag"]}>'

  return MATH.sub(mathml, html)


def _plain(html: str) -> str:
  for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
    html = html.replace(entity, character)
  return html


def _linked(page: str) -> Iterator[str]:
  """Paths in the repository that a page links to."""
  prose = FENCE.sub("", (ROOT / page).read_text())
  for link in LINK.findall(prose):
    yield posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def _in_site(path: str) -> str:
  """Where a file of the repository is in the site."""
  if path == "README.md":
    return "index.md"
  return path.removeprefix("docs/")


def _in_repository(uri: str) -> str:
  """Which file of the repository a file of the site is."""
  inside = os.path.join("docs", uri)
  return inside if (ROOT / inside).exists() else uri
