"""JSON files that are always whole."""

import os
import signal
import subprocess
import sys

import pytest

from proxyless_jax.run.storage import json_files
from proxyless_jax.run.storage.json_files import read_json, write_json


def test_write_json_replaces_whole(tmp_path, monkeypatch):
  path = tmp_path / "result.json"
  write_json(path, {"top1": 0.5})
  with pytest.raises(ValueError, match=r"result\.json\.top1 = nan"):
    write_json(path, {"top1": float("nan")})

  def die(_):
    raise OSError("killed here")

  monkeypatch.setattr(json_files.os, "fsync", die)
  with pytest.raises(OSError, match="killed here"):
    write_json(path, {"top1": 0.6})
  monkeypatch.undo()
  assert read_json(path) == {"top1": 0.5}
  write_json(path, {"top1": 0.7, "name": "α"})
  assert read_json(path) == {"top1": 0.7, "name": "α"}
  assert os.listdir(tmp_path) == ["result.json"]


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
  path = tmp_path / "big.json"
  code = (
    "import sys; from proxyless_jax.run.storage.json_files import write_json\n"
    "for i in range(10**6):\n"
    "  write_json(sys.argv[1], [i] * 20000)\n"
    "  print(i, flush=True)\n"
  )
  for round_ in range(3):
    with subprocess.Popen(
      [sys.executable, "-c", code, path], stdout=subprocess.PIPE
    ) as process:
      for _ in range(2 + round_):
        process.stdout.readline()
      process.send_signal(signal.SIGKILL)
    values = read_json(path)
    assert len(values) == 20000 and len(set(values)) == 1
