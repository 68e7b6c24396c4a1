"""Runs the tests that need 8 devices where there are fewer."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest

HERE = pathlib.Path(__file__).parent
FILES = ("test_hlo.py", "test_communication.py")


@pytest.mark.skipif(
  len(jax.devices()) >= 8, reason="the tests run here themselves"
)
def test_on_eight_simulated_devices():
  environment = {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": "8",
  }
  files = [str(HERE / name) for name in FILES]
  command = [sys.executable, "-m", "pytest", "-q", *files]
  done = subprocess.run(
    command,
    env=environment,
    cwd=HERE.parents[1],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  assert "skipped" not in done.stdout
