"""An extension of Griffe, by which mkdocstrings shows doctests as code."""

from __future__ import annotations

import re

import griffe

# From a first line with >>> up to an empty line, or the end.
DOCTEST = re.compile(r"^( *)>>> .*?(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)


class Doctests(griffe.Extension):
  """Fences the doctests of every docstring."""

  def on_object(self, *, obj: griffe.Object, **_: object) -> None:
    if obj.docstring:
      obj.docstring.value = fence(obj.docstring.value)


def fence(text: str) -> str:
  """A docstring whose doctests are fenced code.

  Args:
    text: docstring without indentation.
  """
  return DOCTEST.sub(r"\1```pycon\n\g<0>\n\1```", text)
