"""python -m proxyless_jax.report WORKDIR: writes the report of a run again."""

from __future__ import annotations

import argparse

from proxyless_jax.report.page import write_report


def main() -> None:
  """Writes `report.html` into a workdir, and prints its path."""
  parser = argparse.ArgumentParser(
    prog="python -m proxyless_jax.report",
    description="Writes WORKDIR/report.html from the files of a run.",
  )
  parser.add_argument("workdir", help="folder of a run, finished or not")
  try:
    print(write_report(parser.parse_args().workdir))
  except (ValueError, OSError) as error:
    parser.exit(1, f"{error}\n")


if __name__ == "__main__":
  main()
