import json
import types

import pytest

from proxyless_jax.report.page import document
from proxyless_jax.run import ledger, reporting
from proxyless_jax.run.ledger import Ledger, read_ledger


@pytest.fixture(autouse=True)
def config(tmp_path):
  (tmp_path / "config.json").write_text('{"job": "search"}')


def test_an_entry_is_what_all_starts_took(tmp_path, monkeypatch):
  monkeypatch.setattr(ledger._compiling, "seconds", 10.0)
  first = Ledger(tmp_path, "search", 0, steps=8, batch=4)
  ledger._compiling.seconds += 2.0
  first.end(3, 30.0)
  ledger._compiling.seconds += 1.0  # Lost: not written before the kill.
  second = Ledger(tmp_path, "search", 3, steps=8, batch=4)
  ledger._compiling.seconds += 0.5
  second.end(8, 70.0)
  Ledger(tmp_path, "train", 0, steps=5, batch=2).end(5, 9.0)
  found = json.loads((tmp_path / "ledger.json").read_text())
  entry = found["stages"]["search"]
  assert entry.pop("peak_memory_mb") > 1.0
  assert entry == {
    **{"step": 8, "steps": 8, "batch": 4},
    **{"seconds": 70.0, "seconds_compiling": 2.5},
  }
  assert found["stages"]["train"]["seconds_compiling"] == 0.0
  assert found["environment"]["devices"] >= 1
  assert "search at step" not in (tmp_path / "report.html").read_text()


def test_a_stage_that_starts_afresh_has_a_new_entry(tmp_path, monkeypatch):
  monkeypatch.setattr(ledger._compiling, "seconds", 0.0)
  first = Ledger(tmp_path, "search", 0, steps=8, batch=4)
  ledger._compiling.seconds += 2.0
  first.end(3, 30.0)
  Ledger(tmp_path, "search", 0, steps=8, batch=4).end(1, 10.0)
  entry = read_ledger(tmp_path)["stages"]["search"]
  assert entry["seconds_compiling"] == 0.0


def test_logs_that_come_fast_are_not_all_written(tmp_path, monkeypatch):
  now = 100.0
  clock = types.SimpleNamespace(perf_counter=lambda: now)
  monkeypatch.setattr(ledger, "time", clock)
  written, steps = Ledger(tmp_path, "search", 0, steps=8, batch=4), []
  for step, now in enumerate((100.0, 104.9, 105.1), start=1):  # noqa: B007
    written.log(step, 1.0)
    steps.append(read_ledger(tmp_path)["stages"]["search"]["step"])
  assert steps == [1, 1, 3]


def test_a_report_that_fails_does_not_end_the_run(tmp_path, monkeypatch):
  def fails(contents):
    raise KeyError("chart")

  monkeypatch.setattr(document, "render", fails)
  with pytest.warns(UserWarning, match="report.html could not be written"):
    reporting.keep_report(tmp_path)


def test_a_workdir_without_a_ledger(tmp_path):
  assert read_ledger(tmp_path) == {"environment": {}, "stages": {}}
