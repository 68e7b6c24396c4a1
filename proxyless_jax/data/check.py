"""Decodes all images of a folder, and lists the files that cannot be read.

    python -m proxyless_jax.data.check FOLDER

A run does so itself for sets that take seconds; this is for larger ones.
"""

import argparse
import io
import sys
from collections.abc import Sequence

from proxyless_jax.data.folders import folder_sources


def main(argv: Sequence[str] | None = None) -> None:
  """The command line; exit code 1 where some files cannot be read."""
  parser = argparse.ArgumentParser(
    prog="python -m proxyless_jax.data.check",
    description="Lists the image files of a folder that cannot be decoded.",
  )
  parser.add_argument("folder", help="the folder; data.path of a config")
  args = parser.parse_args(argv)
  # Names of files may be bytes that no text has.
  if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="backslashreplace")
  try:
    *sources, notes = folder_sources(args.folder, channels=3)
  except ValueError as error:
    parser.exit(1, f"{error}\n")
  for note in notes:
    print(note)
  images = damaged = 0
  for source in filter(None, sources):
    images += len(source)
    for path, why in source.damaged(decoding=True):
      damaged += 1
      print(f"{path}: {why}", flush=True)
  print(f"{damaged} of {images} images cannot be read")
  parser.exit(1 if damaged else 0)


if __name__ == "__main__":
  main()
