"""The file of a workdir that names what a search was given in Python.

A config has no functions or optimizers of your own: a start without them would
continue by another method, and nobody would notice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from proxyless_jax.run.storage.json_files import read_fields, write_json
from proxyless_jax.run.storage.workdir import reached

METHOD_FILE = "method.json"


def keep_method(workdir: str | os.PathLike, given: Mapping[str, Any]) -> None:
  """Writes what a search was given, or compares it with what was written.

  Of several hosts, one calls. Without a file, nothing was given.

  Args:
    workdir: folder of the run, which exists.
    given: names of functions and optimizers, by argument; values of JSON.

  Raises:
    ValueError: a search that has begun would continue with others.
  """
  path = os.path.join(workdir, METHOD_FILE)
  kept = read_fields(path) if os.path.exists(path) else {}
  if kept == given:
    return
  if "search" in reached(workdir):
    changed = sorted(
      name for name in {*kept, *given} if kept.get(name) != given.get(name)
    )
    differences = "; ".join(
      f"{name}: {_shown(kept, name)} in the workdir, {_shown(given, name)} now"
      for name in changed
    )
    raise ValueError(
      f"{os.path.abspath(workdir)} has a search by another method: "
      f"{differences}: give pj.search the same functions and optimizers again, "
      "or use another workdir"
    )
  write_json(path, given)


def _shown(given: Mapping[str, Any], name: str) -> str:
  return repr(given[name]) if name in given else "not given"
