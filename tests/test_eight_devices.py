"""Runs what needs eight devices on them: JAX makes them of one CPU.

How many there are is settled before JAX starts, so it takes a process of its
own; where this one has eight devices the tests run in it, too.
"""

import os
import pathlib
import re
import subprocess
import sys

DEVICES = 8
TESTS = (
  "tests/parallel",
  "tests/run/test_golden.py::test_numbers_of_a_path_per_device",
)


def test_on_eight_devices():
  done = subprocess.run(
    [sys.executable, "-m", "pytest", "-q", *TESTS],
    cwd=pathlib.Path(__file__).parents[1],
    env={**os.environ, "JAX_NUM_CPU_DEVICES": str(DEVICES)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  assert re.search(r"\d+ passed", done.stdout), done.stdout
  assert "skipped" not in done.stdout, done.stdout
