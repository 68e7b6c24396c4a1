"""What a name that is not known was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: object, known: Iterable[str], cutoff: float = 0.6) -> str:
  """The known name that is most like `name`, whatever the case of letters.

  Args:
    name: as the user wrote it; what is not text is like nothing.
    known: names.
    cutoff: the least similarity, `difflib`'s ratio.

  Returns:
    A name of `known`, or '' where none is alike.

  >>> nearest("Proxyles_GPU", ["proxyless_cpu", "proxyless_gpu"])
  'proxyless_gpu'
  """
  if not isinstance(name, str):
    return ""
  lower = {one.lower(): one for one in known}
  found = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=cutoff)
  return lower[found[0]] if found else ""


def did_you_mean(name: object, known: Iterable[str]) -> str:
  """The end of an error: "; did you mean 'x'?", or '' where nothing is alike.

  >>> did_you_mean("serch", ["search", "train"])
  "; did you mean 'search'?"
  """
  found = nearest(name, known)
  return f"; did you mean {found!r}?" if found else ""
