"""Files that are always whole, whenever the process is killed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import IO, Any


@contextlib.contextmanager
def whole_file(
  path: str | os.PathLike, mode: str = "w", **options: Any
) -> Iterator[IO[Any]]:
  """Opens a file to write; a kill leaves the old file or the new one.

  After an error in the block the old file stays, too.

  Args:
    path: path of the file, in a folder that exists.
    mode: 'w' or 'wb'.
    **options: further arguments of `open`.
  """
  temporary = f"{os.fspath(path)}.tmp"
  try:
    with open(temporary, mode, **options) as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
  except BaseException:
    with contextlib.suppress(OSError):
      os.unlink(temporary)
    raise
  os.replace(temporary, path)
