"""Scripts that worker processes would import, and start again."""

import subprocess
import sys

import pytest

SEARCH = """
import sys
sys.path.insert(0, {root!r})
from proxyless_jax.run.hosts.spawning import check_main
def search():
  check_main({workers})
{call}
"""
GUARD = 'if __name__ == "__main__":'


@pytest.mark.parametrize(
  "call, workers, line",
  [
    ("search()", 2, 7),
    ("for i in range(1):\n  search()", 2, 8),
    ("search()", 0, None),
    (f"{GUARD}\n  search()", 2, None),
    (f"try:\n  {GUARD}\n    search()\nfinally:\n  pass", 2, None),
    (
      "import threading\nt = threading.Thread(target=search)\nt.start()",
      2,
      None,
    ),
  ],
)
def test_what_stands_outside_of_the_guard_is_refused(
  tmp_path, pytestconfig, call, workers, line
):
  path = tmp_path / "job.py"
  root = str(pytestconfig.rootpath)
  path.write_text(SEARCH.format(root=root, workers=workers, call=call))
  process = subprocess.run(
    [sys.executable, path], capture_output=True, text=True, timeout=600
  )
  assert (process.returncode == 0) is (line is None), process.stderr
  if line:
    assert f"data.workers = 2: expected that {path} starts" in process.stderr
    assert f"would run its line {line} again" in process.stderr


def test_scripts_without_a_file(pytestconfig):
  code = SEARCH.format(
    root=str(pytestconfig.rootpath), workers=2, call="search()"
  )
  subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
