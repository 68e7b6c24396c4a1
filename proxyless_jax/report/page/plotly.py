"""Plotly's JavaScript, packed so that a page can contain it.

Compressed it is 2 MB instead of 5; the page unpacks it in the browser.
"""

from __future__ import annotations

import base64
import functools
import gzip
import importlib.util
import os


@functools.cache
def packed_plotly() -> str | None:
  """The library, gzipped and in base64; None where the extra is missing."""
  found = importlib.util.find_spec("plotly")  # Importing it takes a while.
  if found is None or found.origin is None:
    return None
  path = os.path.join(
    os.path.dirname(found.origin), "package_data", "plotly.min.js"
  )
  if not os.path.exists(path):
    return None
  with open(path, "rb") as file:
    packed = gzip.compress(file.read(), compresslevel=6, mtime=0)
  return base64.b64encode(packed).decode()
