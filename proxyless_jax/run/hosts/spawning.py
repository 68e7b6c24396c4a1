"""Scripts that worker processes would run a second time.

Python's spawned processes import the script that started them. All code outside
of `if __name__ == "__main__":` runs again there, including a search.
"""

from __future__ import annotations

import ast
import sys
import types


def check_main(workers: int) -> None:
  """Refuses a script whose worker processes would start a run of their own.

  Args:
    workers: number of processes to start, as in `data.workers`.

  Raises:
    ValueError: a line outside of the guard starts the run; names it.
  """
  main = sys.modules["__main__"]
  path = getattr(main, "__file__", None)
  frame: types.FrameType | None = sys._getframe()
  while frame and not (
    frame.f_globals is vars(main) and frame.f_code.co_name == "<module>"
  ):
    frame = frame.f_back
  # In notebooks, and in other threads than the main one, there is no script.
  if not workers or path is None or frame is None:
    return
  if not _is_guarded(path, frame.f_lineno):
    raise ValueError(
      f"data.workers = {workers}: expected that {path} starts its work under "
      'if __name__ == "__main__":, since worker processes import the script, '
      f"and would run its line {frame.f_lineno} again: put that under such a "
      "line, or set data.workers to 0"
    )


def _is_guarded(path: str, line: int) -> bool:
  """Whether a line does not run where the script is imported."""
  try:
    with open(path, "rb") as file:
      tree = ast.parse(file.read())
  except (OSError, SyntaxError, ValueError):
    return True  # It is no source, so that nothing is known of it.
  return any(
    isinstance(node, ast.If)
    and "__name__" in ast.dump(node.test)
    and node.lineno <= line <= (node.end_lineno or node.lineno)
    for node in ast.walk(tree)
  )
