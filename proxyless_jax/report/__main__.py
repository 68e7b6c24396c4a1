"""Writes the report of a run again, and an animation of its search.

python -m proxyless_jax.report WORKDIR [--animation search.gif]
"""

from __future__ import annotations

import argparse

from proxyless_jax.report.animation import ENDINGS, write_animation
from proxyless_jax.report.page import write_report


def main() -> None:
  """Writes `report.html` into a workdir; prints the paths of what it wrote."""
  parser = argparse.ArgumentParser(
    prog="python -m proxyless_jax.report",
    description="Writes WORKDIR/report.html from the files of a run.",
  )
  parser.add_argument("workdir", help="folder of a run, finished or not")
  parser.add_argument(
    "--animation",
    metavar="FILE",
    help="also write an animation of the search, as " + ", ".join(ENDINGS),
  )
  given = parser.parse_args()
  try:
    print(write_report(given.workdir))
    if given.animation:
      print(write_animation(given.workdir, given.animation))
  except (ValueError, OSError) as error:
    parser.exit(1, f"{error}\n")


if __name__ == "__main__":
  main()
