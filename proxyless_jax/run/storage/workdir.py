"""The folder of a run: its path, its config, its lock.

A run that is started again resumes from its workdir. With another config it
would silently mix two experiments, so that this is refused, except for fields
whose change has a clear meaning: these changes are printed and kept in a file.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence

from proxyless_jax.run.storage.json_files import plain, read_fields, write_json

CONFIG_FILE, CHANGES_FILE = "config.json", "config_changes.jsonl"
# Parts of a local path that Orbax and TensorStore misinterpret.
_MISREAD = {
  "\\": "a separator of folders",
  "gs:/": "an address of Google Cloud Storage",
}
_BUCKETS = ("/gs/", "/s3/", "/az/", "/hf/")
_ABSENT = object()


def checked(workdir: str | os.PathLike) -> str:
  """The path of a run's folder, with `~` expanded; touches no file.

  Raises:
    ValueError: it is no path, or checkpoints could not be restored from it.
  """
  path = os.path.expanduser(_named(workdir))
  if path.startswith("~"):
    raise ValueError(
      f"workdir = {path}: expected ~, or ~ and a user of this machine: for a "
      f"folder of that name write ./{path}"
    )
  if "://" in path:
    raise ValueError(
      f"workdir = {path}: expected a folder of this machine: mount the bucket, "
      "such as by Cloud Storage FUSE, and name a folder in it"
    )
  absolute = f"{os.path.abspath(path)}/"
  misread = {k: v for k, v in _MISREAD.items() if k in absolute}
  misread |= {k: "a bucket" for k in _BUCKETS if absolute.startswith(k)}
  if misread:
    part, meaning = misread.popitem()
    raise ValueError(
      f"workdir = {path}: expected a path without {part}, which the libraries "
      f"that write checkpoints (Orbax, TensorStore) take for {meaning}: name "
      "another folder"
    )
  return path


def claim(
  workdir: str | os.PathLike,
  config: Mapping,
  may_differ: Sequence[str] = (),
  *,
  keeps: bool = True,
) -> list[str]:
  """Makes the folder of a run, or checks that it is of the same config.

  The first call writes `config.json`; later ones compare with it. Allowed
  changes are written to it, and as a line to `config_changes.jsonl`. Of several
  hosts, one calls.

  Args:
    workdir: folder, made where it is missing.
    config: nested dicts with str keys, of bool, int, float, str, None, and
      lists and tuples of them, which compare as lists.
    may_differ: dotted names of fields, or of groups of fields, that may change
      from start to start, such as `("log_every", "data.workers")`.
    keeps: whether to write changes; False only compares, where there is a
      config.

  Returns:
    The changes since the last call, such as "epochs: 3 -> 5".

  Raises:
    ValueError: the config is not the one in the workdir; names each field
      that differs. Or it has a value that JSON cannot hold.
    NotADirectoryError: `workdir`, or a parent of it, is a file.
    OSError: `workdir` cannot be made or written.
  """
  workdir = os.path.abspath(workdir)
  config = plain(config, "config")
  make_folder(workdir)
  path = os.path.join(workdir, CONFIG_FILE)
  if not os.path.exists(path):
    write_json(path, config)
    return []
  changes = _changes(read_fields(path), config)
  _check_changes(workdir, changes, may_differ)
  if changes and keeps:
    _append(workdir, changes)
    write_json(path, config)
  return [f"{k}: {_shown(a)} -> {_shown(b)}" for k, (a, b) in changes.items()]


def checkpoint_folder(workdir: str | os.PathLike, stage: str = "") -> str:
  """The folder of the checkpoints of a stage, or of those of all stages."""
  return os.path.join(workdir, "checkpoints", stage)


def reached(workdir: str | os.PathLike) -> dict[str, int]:
  """The step of the newest checkpoint of each stage that has one."""
  folder, newest = checkpoint_folder(workdir), {}
  for stage in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
    path = os.path.join(folder, stage)
    names = os.listdir(path) if os.path.isdir(path) else ()
    if steps := [int(name) for name in names if name.isdecimal()]:
      newest[stage] = max(steps)
  return newest


@contextlib.contextmanager
def locked(workdir: str | os.PathLike) -> Iterator[None]:
  """Keeps two processes from taking steps in one workdir; made where missing.

  The lock ends with the process, however that ends. On a file system without
  locks, nothing is refused.

  Raises:
    ValueError: another process is running in the workdir.
  """
  os.makedirs(workdir, exist_ok=True)
  with open(os.path.join(workdir, "lock"), "w") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise ValueError(
        f"workdir = {os.path.abspath(workdir)}: another process is running in "
        "it: wait until it ends, or end it"
      ) from error
    except OSError:
      pass
    yield


def _named(workdir: object) -> str:
  """A path as text; raises a ValueError for a value that names no folder."""
  if isinstance(workdir, str | os.PathLike):
    if path := os.fspath(workdir):
      return path
    got = "= ''"
  else:
    got = f"is of type {type(workdir).__name__}"
  raise ValueError(
    f"workdir {got}: expected a folder for the run's files, such as "
    "'runs/mnist'"
  )


def make_folder(workdir: str) -> None:
  """Makes the folder of a run, where it is missing.

  Raises:
    OSError: as `claim`.
  """
  try:
    os.makedirs(workdir, exist_ok=True)
  except (FileExistsError, NotADirectoryError) as error:
    raise NotADirectoryError(
      f"workdir = {workdir}: expected a folder, got a file, or a path through "
      "one; name another workdir"
    ) from error
  except OSError as error:  # For example in /proc.
    raise type(error)(
      f"workdir = {workdir}: cannot be made ({error.strerror or error}); name "
      "another workdir"
    ) from error
  try:
    # Permissions do not tell: root may write anywhere, but nobody in /proc.
    tempfile.TemporaryFile(dir=workdir).close()
  except OSError as error:
    raise type(error)(
      f"workdir = {workdir}: expected a folder that can be written to "
      f"({error.strerror or error}); change its permissions, or name another "
      "workdir"
    ) from error


def _changes(saved: Mapping, config: Mapping) -> dict[str, tuple]:
  """(old, new) by the dotted names of the fields that differ."""
  before, now = _flat(saved), _flat(config)
  names = [*now, *(name for name in before if name not in now)]
  pairs = {n: (before.get(n, _ABSENT), now.get(n, _ABSENT)) for n in names}
  return {name: pair for name, pair in pairs.items() if not _same(*pair)}


def _check_changes(
  workdir: str, changes: Mapping[str, tuple], may_differ: Sequence[str]
) -> None:
  """Raises a ValueError that names all changes that are not allowed."""
  refused = [
    f"{name}: {_shown(old)} in the workdir, {_shown(new)} now"
    for name, (old, new) in changes.items()
    if not any(f"{name}.".startswith(f"{prefix}.") for prefix in may_differ)
  ]
  if refused:
    raise ValueError(
      f"{workdir} is the workdir of another config: "
      + "; ".join(refused)
      + ". Use another workdir, or restore the values to continue with this one"
    )


def _shown(value) -> str:
  return "absent" if value is _ABSENT else repr(value)


def _append(workdir: str, changes: dict[str, tuple]) -> None:
  """Appends the changes, and the steps after which they were made."""
  fields = {
    name: {
      word: value
      for word, value in zip(("old", "new"), pair)
      if value is not _ABSENT
    }
    for name, pair in changes.items()
  }
  line = json.dumps({"reached": reached(workdir), "changed": fields})
  with open(os.path.join(workdir, CHANGES_FILE), "a", encoding="utf-8") as file:
    file.write(line + "\n")


def _flat(tree, prefix: str = "") -> dict[str, object]:
  """Leaves by dotted name; empty dicts and lists of values are leaves.

  Lists of dicts, such as the edges of a network, are not.
  """
  leaves: dict[str, object] = {}
  if isinstance(tree, list) and any(isinstance(item, dict) for item in tree):
    for i, item in enumerate(tree):
      leaves |= _flat(item, f"{prefix}[{i}]")
    return leaves
  if not isinstance(tree, dict) or (prefix and not tree):
    return {prefix: tree}
  for key, value in tree.items():
    leaves |= _flat(value, f"{prefix}.{key}" if prefix else key)
  return leaves


def _same(a, b) -> bool:
  # To Python, True == 1; but an option that became a number has changed.
  return a == b and isinstance(a, bool) == isinstance(b, bool)
