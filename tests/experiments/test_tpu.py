"""Compiling for described TPUs, where their compiler is installed."""

import sys

import pytest

from experiments import tpu


def test_without_the_compiler_the_error_names_the_extra(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, "libtpu", None)
  with pytest.raises(ImportError, match=r"proxyless_jax\[tpu-aot\]"):
    tpu.main(["--out", str(tmp_path / "tpu.json")])


def test_steps_compile_for_one_chip_and_for_four(tmp_path, capsys):
  pytest.importorskip("libtpu", reason="the extra tpu-aot is not installed")
  command = ["--out", str(tmp_path / "tpu.json")]
  command += ["--programs", "tiny", "tiny4", "--steps", "plain", "weight"]
  rows = tpu.main(command)
  assert list(rows) == [
    f"{program}: {step}"
    for program in ("tiny", "tiny4")
    for step in ("plain", "weight")
  ]
  for name, row in rows.items():
    assert row["cycles"] > 0
    assert row["fits"] and row["memory"]["arguments"] > 0
    assert (row["exchanged_bytes"] > 0) == ("4" in name)
  assert tpu.main(command) == rows  # As the file has them.
  assert "| tiny4 | weight |" in capsys.readouterr().out


def test_the_table_has_ratios_to_the_plain_step_of_the_same_program():
  row = {
    "trace_s": 1.0,
    "compile_s": 30.0,
    "memory": {"temporaries": 2e9},
    "memory_bytes": 17e9,
    "fits": False,
    "cycles": 300,
    "exchanged_bytes": 5e6,
  }
  plain = {**row, "compile_s": 20.0, "memory": {"temporaries": 4e9}}
  table = tpu.table_of({"a: plain": plain, "a: weight": row, "b: weight": row})
  _, _, _, weight, alone = table.splitlines()
  assert weight == (
    "| a | weight | 1 | 30 | 1.50 | 17 (no) | 2 | 0.50 | 1.00 | 5.00 |"
  )
  assert alone == "| b | weight | 1 | 30 | – | 17 (no) | 2 | – | – | 5.00 |"
