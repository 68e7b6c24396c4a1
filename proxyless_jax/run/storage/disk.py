"""The error of a workdir that can no longer be written, with a remedy."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator

from proxyless_jax.run.storage.workdir import reached

_FULL = (errno.ENOSPC, errno.EDQUOT)
_LOCKED = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextlib.contextmanager
def explained(workdir: str | os.PathLike) -> Iterator[None]:
  """Turns the error of a failed write in a workdir into a helpful `OSError`.

  Orbax passes on the error of its storage, a ValueError of many lines.

  Args:
    workdir: folder of a run; files written before the failure are whole.
  """
  workdir = os.path.abspath(workdir)
  try:
    yield
  except Exception as error:
    code = _code(error, workdir)
    if code is None:
      raise
    if code in _FULL:
      advice = (
        "free some, enough for one more checkpoint than run.keep (older runs, "
        "other files on that disk)"
      )
    else:
      advice = "make the folder and all in it writable again"
    raise OSError(
      f"workdir = {workdir}: {os.strerror(code)}: {advice}; {_kept(workdir)}"
    ) from error


def _code(error: Exception, workdir: str) -> int | None:
  """The `errno` of a failed write in the workdir; None for other errors."""
  text = str(error)
  if isinstance(error, OSError):
    code, path = error.errno, error.filename
  else:
    found = re.search(r"os_error_code='(\d+)'", text)
    code, path = found and int(found[1]), text
  if code not in _FULL + _LOCKED:
    return None
  # The buffer of an open file, and Orbax within a checkpoint, name no path.
  relative = path is None or not os.path.isabs(str(path))
  return code if relative or workdir in str(path) else None


def _kept(workdir: str) -> str:
  """The step from which the same command will continue."""
  newest = reached(workdir)
  if not newest:
    return "the same command then starts from the beginning"
  steps = " and ".join(f"{step} of {stage}" for stage, step in newest.items())
  return f"the same command then continues from step {steps}"
