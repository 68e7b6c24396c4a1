import dataclasses
import json

import numpy as np
import pytest

import proxyless_jax as pj
from proxyless_jax.hardware import load_table
from proxyless_jax.hardware.design import (
  block_of,
  blocks_of,
  draw_networks,
  is_of,
)
from proxyless_jax.hardware.energy import energy_meter
from proxyless_jax.hardware.measure import Plan, build_table
from proxyless_jax.hardware.runtime import from_function, metered
from proxyless_jax.hardware.sampling import Patience

FIXED = 3.0  # Of the fake device.
PLAN = Plan(calibration=30, held_out=10, patience=Patience(0.01, 3, 5))


def true_costs(device, space):
  return [
    [device.costs[block_of(edge, op)] for op in edge.ops]
    for edge in space.edges
  ]


def test_known_costs_are_found_exactly(space, make_device):
  device = make_device()
  table, check = build_table(space, device.runtime(), PLAN)
  assert table.fixed == pytest.approx(FIXED, rel=1e-6)
  for row, truth in zip(table.costs, true_costs(device, space)):
    np.testing.assert_allclose(row[: len(truth)], truth, rtol=1e-6)
  assert (table.unit, table.source) == ("ms", "measured: fake")
  assert check.summary()["error_max"] < 1e-6
  assert check.summary()["spearman"] > 0.999
  assert table.details["fit_scale"] == pytest.approx(1.0)
  assert table.details["fit_penalty"] == "infinite"


def test_costs_alone_are_but_a_prior(space, make_device):
  device = make_device()
  # Inside a network blocks cost something else than alone, each by itself.
  rng = np.random.default_rng(1)
  device.alone = {b: rng.uniform(1.2, 2.0) for b in device.alone}
  table, check = build_table(space, device.runtime(), PLAN)
  assert check.summary()["error_max"] < 1e-3
  assert table.fixed == pytest.approx(FIXED, rel=0.03)


def test_each_thing_is_measured_once(space, make_device):
  device = make_device()
  table, _ = build_table(space, device.runtime(), PLAN)
  sizes = [len(network.layers) for network in device.prepared]
  alone = sizes.count(1)
  assert alone == 1 + len(blocks_of(space))  # The idle edge too.
  # The reference beside the others, and two passes of the check.
  assert len(sizes) - alone == 1 + 30 + 2 * 10
  assert table.details["readings"] == alone + 30 + 2 * 10


def test_noise_drift_and_bursts(space, make_device):
  device = make_device(noise=0.03)
  plan = dataclasses.replace(PLAN, patience=Patience(0.01, 8, 60))
  _, check = build_table(space, device.runtime(samples=4), plan)
  figures = check.summary()
  assert figures["error_mean"] < 0.02
  assert figures["noise_mean"] < 0.02
  assert figures["spearman"] > 0.98


def test_held_out_networks_are_not_fitted(space, make_device):
  device = make_device()
  build_table(space, device.runtime(), PLAN)
  whole = [n for n in device.prepared if len(n.layers) > 1]
  calibration, one, two = set(whole[:31]), whole[31:41], whole[41:]
  assert len(calibration) == 30  # The reference is one of them.
  assert set(one) == set(two) and len(set(one)) == 10
  assert not calibration & set(one)


def test_a_stopped_run_goes_on(space, make_device, tmp_path):
  path = tmp_path / "measure.jsonl"
  whole, _ = build_table(space, make_device().runtime(), PLAN)
  readings = 7 + 30 + 2 * 10
  for stop in (3, 20, 35):
    with pytest.raises(KeyboardInterrupt):
      build_table(
        space, make_device(fails_after=stop).runtime(), PLAN, journal=path
      )
    # What a kill leaves of a line that was being written.
    with open(path, "a") as file:
      file.write('{"key": "check1 0')
  before = len(path.read_text().splitlines()) - 2
  assert before > 30
  device, told = make_device(), []
  table, _ = build_table(
    space,
    device.runtime(),
    PLAN,
    journal=path,
    on_reading=lambda *call: told.append(call),
  )
  assert len(device.prepared) == 1 + readings - before
  assert [call[:2] for call in told] == [
    (done, readings) for done in range(before + 1, readings + 1)
  ]
  np.testing.assert_allclose(table.costs, whole.costs, rtol=1e-6)
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert len(lines) == 1 + readings


def test_the_journal_is_of_one_measurement(space, make_device, tmp_path):
  path = tmp_path / "measure.jsonl"
  runtime = make_device().runtime()
  build_table(space, runtime, PLAN, journal=path)
  other = dataclasses.replace(runtime, name="other")
  with pytest.raises(ValueError, match="another measurement: runtime: 'fake'"):
    build_table(space, other, PLAN, journal=path)
  for field, value in (("tolerance", 0.001), ("most_rounds", 9)):
    patience = dataclasses.replace(PLAN.patience, **{field: value})
    plan = dataclasses.replace(PLAN, patience=patience)
    with pytest.raises(ValueError, match=f"{field}: .* now"):
      build_table(space, runtime, plan, journal=path)
  other = dataclasses.replace(runtime, setting={"jax": "9"})
  with pytest.raises(ValueError, match="jax: None there, '9' now"):
    build_table(space, other, PLAN, journal=path)
  # More networks may be added.
  plan = dataclasses.replace(PLAN, calibration=32)
  build_table(space, runtime, plan, journal=path)


def test_a_function_of_your_own(space, make_device, tmp_path):
  device, calls = make_device(), []

  def phone(network):
    calls.append(network)
    return device.cost(network)

  plan = dataclasses.replace(PLAN, calibration=12, held_out=4)
  table, _ = build_table(space, from_function("phone", phone), plan)
  assert len(calls) == 7 + 12 + 2 * 4  # No reference, no rounds.
  assert table.fixed == pytest.approx(FIXED, rel=1e-6)
  table.to_json(tmp_path / "table.json")
  loaded = load_table(tmp_path / "table.json", space)
  np.testing.assert_array_equal(loaded.costs, table.costs)
  assert loaded.details["held_out"] == 4


def test_a_counter_that_stands_still(space):
  with pytest.raises(ValueError, match="'phone' counted 0 ms for calibration"):
    build_table(space, from_function("phone", lambda network: 0.0), PLAN)
  meter = energy_meter(lambda: 7.0, 0.0)
  runtime = metered("it", lambda network: lambda: None, meter, {})
  with pytest.raises(ValueError, match="0 mJ for the reference network: does"):
    build_table(space, runtime, PLAN)


def test_networks_that_cost_nothing(space, make_device):
  device = make_device()
  runtime = device.runtime()
  cost = device.cost
  device.cost = lambda n: cost(n) if n == device.prepared[0] else 0.0
  # Blocks alone may.
  with pytest.raises(ValueError, match="counted 0 ms for calibration"):
    build_table(space, runtime, PLAN)


@pytest.mark.parametrize("cost", [float("nan"), -1.0])
def test_invalid_costs(space, cost):
  with pytest.raises(ValueError, match="'phone' gave"):
    build_table(space, from_function("phone", lambda network: cost), PLAN)


def test_published_networks_of_the_space(make_device):
  network = pj.zoo("proxyless_mobile", image_size=32, classes=4)
  space = pj.mobile_space(
    image_size=32, classes=4, widths=(32, 40, 80, 96, 192, 320)
  )
  assert is_of(network, space)
  assert not is_of(network, pj.mobile_space(image_size=32, classes=4))
  device = make_device()
  device.cost = lambda network: 5.0 + pj.macs(network) / 1e6
  plan = dataclasses.replace(PLAN, calibration=5, held_out=2)
  known = {"one": network, "other": pj.zoo("mobilenet_v2", image_size=32)}
  table, check = build_table(space, device.runtime(), plan, known=known)
  assert list(check.known) == ["one"]
  predicted, measured = check.known["one"]
  assert predicted == pytest.approx(measured, rel=0.2)
  assert table.details["known"] == {"one": [predicted, measured]}


def test_published_networks_are_not_fitted(space, make_device):
  device = make_device()
  drawn = draw_networks(space, 5, PLAN.seed)
  known = {"one": drawn[1], "same": drawn[1]}
  plan = dataclasses.replace(PLAN, calibration=5, held_out=2)
  runtime = dataclasses.replace(device.runtime(), setting={"batch": 2})
  table, check = build_table(space, runtime, plan, known=known)
  assert device.prepared.count(drawn[1]) == 2  # Two passes.
  assert list(check.known) == ["one", "same"] and len(check.predicted) == 2
  assert table.details["batch"] == 2 and table.details["runtime"] == "fake"


@pytest.mark.parametrize(
  "fields", [{"calibration": 3}, {"held_out": 1}], ids=str
)
def test_a_plan_needs_networks(fields):
  with pytest.raises(ValueError, match="networks"):
    Plan(**fields)
