"""Suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: object, known: Iterable[str], cutoff: float = 0.6) -> str:
  """The known name that is most similar to `name`, ignoring case.

  Args:
    name: name as the user wrote it; anything but a text is similar to none.
    known: all names.
    cutoff: least similarity, a ratio of `difflib`.

  Returns:
    A name of `known`, or '' where none is similar.

  >>> nearest("Proxyles_GPU", ["proxyless_cpu", "proxyless_gpu"])
  'proxyless_gpu'
  """
  if not isinstance(name, str):
    return ""
  lower = {one.lower(): one for one in known}
  found = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=cutoff)
  return lower[found[0]] if found else ""


def did_you_mean(name: object, known: Iterable[str]) -> str:
  """The end of an error: "; did you mean 'x'?", or '' for no suggestion.

  >>> did_you_mean("serch", ["search", "train"])
  "; did you mean 'search'?"
  """
  found = nearest(name, known)
  return f"; did you mean {found!r}?" if found else ""
