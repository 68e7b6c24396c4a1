import json

import pytest

from experiments import batch_norm
from proxyless_jax.nn import cpu_kernels


@pytest.mark.skipif(not cpu_kernels.available(), reason="no C++ compiler")
def test_the_whole_of_it_on_a_small_map(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(batch_norm, "MAPS", ((4, 8),))
  out = tmp_path / "out.json"
  batch_norm.main(["--rounds", "1", "--out", str(out)])
  (row,) = json.loads(out.read_text())["rows"]
  assert len(row["ms"]) == 4 and set(row["xla / kernels"]) == {
    "forward",
    "both",
  }
  assert "32, 4, 4, 8" in capsys.readouterr().out
