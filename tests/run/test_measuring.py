import contextlib
import dataclasses
import io
import json
import sys

import numpy as np
import pytest

from proxyless_jax.hardware import cost_table
from proxyless_jax.hardware.check import Check
from proxyless_jax.hardware.runtime import from_function
from proxyless_jax.run import jobs, measuring
from proxyless_jax.run.config.options import parse
from proxyless_jax.space import mobile_space

FILES = {"measure.jsonl", "predicted.png", "predicted.svg"}
FILES |= {"result.json", "table.json"}


@pytest.fixture
def config(make_config):
  return make_config(job="measure", measure__classes=3)


@pytest.fixture(scope="module")
def measured(make_config, tmp_path_factory):
  """The workdir of a measurement, its result, and its progress."""
  workdir = tmp_path_factory.mktemp("measured")
  with contextlib.redirect_stderr(io.StringIO()) as lines:
    result = jobs.measure(
      make_config(job="measure", measure__classes=3), workdir
    )
  return workdir, result, lines.getvalue()


def test_measure(config, measured):
  workdir, result, lines = measured
  assert {path.name for path in workdir.iterdir()} == FILES
  assert result == json.loads((workdir / "result.json").read_text())
  assert (result["job"], result["unit"]) == ("measure", "ms")
  assert result["held_out"] == 2 and result["readings"] == 1 + 2 + 4 + 2 * 2
  space = parse(config).make_space(3)
  table = cost_table(str(workdir / "table.json"), space)
  # On a machine that is busy, noise may hide what the candidates cost.
  assert table.unit == "ms" and table.max_cost >= table.min_cost > 0
  assert table.costs[:, 2].tolist() == [0.0, 0.0]  # 'zero'.
  assert table.details["spearman"] == result["spearman"]
  assert result["published"] == 0 and result["batch"] == 1
  assert (result["dtype"], result["runtime"][:3]) == ("float32", "XLA")
  assert "no published network fits this space" in lines
  assert "measure 11/11" in lines


def test_what_has_been_measured_is_not_measured_again(config, measured):
  workdir, result, _ = measured
  journal = (workdir / "measure.jsonl").read_text()
  again = jobs.measure(config, workdir)
  assert (workdir / "measure.jsonl").read_text() == journal
  assert again["fixed"] == result["fixed"]


def test_another_measurement_in_the_workdir(config, measured):
  config["measure"]["batch"] = 2
  with pytest.raises(ValueError, match="another measurement: batch: 1 there"):
    jobs.measure(config, measured[0])


def test_energy(config, tmp_path, monkeypatch):
  used = [0.0]

  def counter():
    used[0] += 40.0
    return used[0]

  monkeypatch.setattr(measuring, "energy_counter", lambda platform: counter)
  real = measuring.energy_meter
  monkeypatch.setattr(measuring, "energy_meter", lambda c: real(c, 1e-3))
  config["measure"]["quantity"] = "energy"
  result = jobs.measure(config, tmp_path)
  assert result["unit"] == "mJ" and np.isfinite(result["max_cost"])


def test_energy_without_a_counter(config, tmp_path, monkeypatch):
  monkeypatch.setattr(measuring.jax, "default_backend", lambda: "tpu")
  config["measure"]["quantity"] = "energy"
  with pytest.raises(ValueError, match="energy on 'tpu'"):
    jobs.measure(config, tmp_path)


def test_onnx_without_the_extra(config, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "onnxruntime", None)
  config["measure"]["runtime"] = "onnx"
  with pytest.raises(ImportError, match=r"proxyless-jax\[onnx\]"):
    jobs.measure(config, tmp_path)


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"runtime": "tflite"}, "measure.runtime = 'tflite': expected one of"),
    ({"quantity": "heat"}, "measure.quantity = 'heat': expected one of"),
    ({"runtime": "onnx", "dtype": "bfloat16"}, "measure.dtype = 'bfloat16'"),
    ({"calibration": 3}, "measure.calibration = 3: expected 4 or more"),
    ({"held_out": 1}, "measure.held_out = 1: expected 2 or more"),
    ({"tolerance": 0.0}, "measure.tolerance = 0.0: expected a positive"),
    ({"batch": 0}, "measure.batch = 0: expected a positive"),
    ({"classes": -1}, "measure.classes = -1: expected 0 or more"),
  ],
)
def test_wrong_fields_are_named(make_config, fields, message):
  config = make_config(**{f"measure__{k}": v for k, v in fields.items()})
  with pytest.raises(ValueError, match=message):
    parse(config)


def test_a_workdir_is_needed(config):
  with pytest.raises(ValueError, match="workdir = ''"):
    jobs.measure(config, "")


def test_published_networks_are_named_and_drawn(tmp_path):
  names = ["proxyless_gpu (its operations in this space)", "mobilenet_v2"]
  known = dict(zip(names, [(2.0, 2.5), (2.1, 2.1)]))
  costs = np.array([1.0, 3.0])
  check = Check(costs, np.stack([costs, costs]), known, "ms")
  assert names[0] in measuring.describe(known)
  runtime = from_function("it", lambda network: 1.0)
  measuring.draw_check(check, runtime, str(tmp_path / "p"))
  picture = (tmp_path / "p.svg").read_text()
  for text in ("proxyless_gpu*", "mobilenet_v2", "* its operations in this"):
    assert text in picture
  space = mobile_space(image_size=32)
  table = dataclasses.replace(cost_table("macs", space), details={"batch": 2})
  result = measuring.result_of(table, check)
  assert result["published"] == 2
  assert result[f"error {names[0]}"] == pytest.approx(-0.2)
  assert result["measured mobilenet_v2"] == 2.1
