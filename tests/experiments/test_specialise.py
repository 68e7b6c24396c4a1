"""Specialised networks: made-up latencies and accuracies, the real space."""

import json

import numpy as np
import pytest

from experiments import specialise
from experiments.macro import comparison
from proxyless_jax.hardware.runtime import from_function
from proxyless_jax.nas.additive import spread_paths
from tests.experiments.made_up import WORTH, write_table

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Accuracies and supernets that follow `WORTH`, nearly."""
  folder = tmp_path_factory.mktemp("made_up")
  rng = np.random.default_rng(0)
  write_table(folder, rng, deviation=0.1)
  for seed in SEEDS:
    drawn = spread_paths(rng, np.ones((8, 3), bool), 200)
    loss = 3 - WORTH[np.arange(8), drawn].sum(1) + rng.normal(0, 0.05, 200)
    np.savez(folder / f"paths-{seed}.npz", paths=drawn, loss=loss)
  return folder


@pytest.fixture
def calls(monkeypatch):
  """The networks that were run; costs depend on digits in opposite ways."""
  calls = []

  def runtime(name, weight):
    def milliseconds(network):
      calls.append(name)
      kernels = [getattr(edge.op, "kernel", 0) for edge in network.edges]
      return 1 + sum(weight.get(kernel, 0.0) for kernel in kernels)

    return from_function(name, milliseconds)

  # For one of them kernels cost, for the other only blocks.
  xla, onnx = {3: 1.0, 5: 4.0}, {3: 1.0, 5: 1.1}
  monkeypatch.setattr(specialise, "xla", lambda: runtime("xla", xla))
  monkeypatch.setattr(specialise, "onnx", lambda threads: runtime("onnx", onnx))
  monkeypatch.setattr(specialise, "temporaries", lambda network: 1)
  return calls


def arguments_of(folder, out):
  command = f"--out {out} --data {folder} --supernets {folder} --seeds 0 1"
  small = "--calibration 12 --held-out 4 --passes 2"
  return specialise.parser().parse_args([*command.split(), *small.split()])


def test_each_is_the_cheapest_on_its_own_target(folder, calls, tmp_path):
  result = specialise.run(arguments_of(folder, tmp_path))
  for seed in SEEDS:
    own = {
      one["searched_for"]: one
      for one in result["networks"]
      if one["seed"] == seed
    }
    assert own["xla"]["arch"] != own["onnx"]["arch"]
    for target, one in own.items():
      costs = {name: other["by_table"][target] for name, other in own.items()}
      assert one["by_table"][target] == pytest.approx(min(costs.values()))
  losses = [one["predicted_loss"] for one in result["networks"][:5]]
  # All at the level of the best network of 60 M MACs, or better.
  assert max(losses) == pytest.approx(
    next(
      one["predicted_loss"]
      for one in result["networks"]
      if one["searched_for"] == "macs"
    ),
    abs=0.05,
  )
  assert set(result["verdicts"]) == set(specialise.TARGETS)
  assert json.loads(json.dumps(result))["settings"]["seeds"] == list(SEEDS)
  text = comparison.tables_of(result, specialise.TARGETS)
  assert text.count("- XLA: its networks") == 1
  assert (tmp_path / "specialise.png").exists()
  # A second call runs no network again.
  before = len(calls)
  again = specialise.run(arguments_of(folder, tmp_path))
  assert len(calls) == before
  assert again["networks"] == result["networks"]


def test_perfect_information_by_enumeration(folder, calls, tmp_path):
  experiment = specialise.Experiment(arguments_of(folder, tmp_path))
  found = experiment.perfect(90.9)
  table = experiment.accuracies
  as_good = table.accuracy >= 90.9
  for one in found:
    costs = experiment.costs[one["searched_for"]]
    assert one["accuracy"] >= 90.9
    assert one["by_table"][one["searched_for"]] == costs[as_good].min()
    assert one["above_front"][one["searched_for"]] >= 0


def row(seed, name, arch, accuracy, cost):
  return {
    "seed": seed,
    "searched_for": name,
    "arch": arch,
    "accuracy": accuracy,
    "deviation": 0.15,
    "by_table": {"macs": cost, "parameters": cost},
    "above_front": {"macs": 0.1, "parameters": cost},
  }


def test_a_verdict_of_known_differences():
  networks = [
    row(0, "macs", "a", 92.0, 80.0),
    row(1, "macs", "b", 92.0, 80.0),
    row(0, "parameters", "c", 91.0, 100.0),
    row(1, "parameters", "d", 91.0, 100.0),
  ]
  result = {"settings": {"seeds": [0, 1]}, "networks": networks, "measured": {}}
  own = comparison.verdicts(result, ("macs", "parameters"))["macs"]
  assert own["rival"] == "parameters" and own["cost"] == pytest.approx(-0.2)
  assert own["cost_error"] == 0.0
  # The error is that of trainings, for there is no spread: a standard error of
  # a mean of three, of two networks, over two seeds.
  assert own["points"] == pytest.approx(1.0)
  assert own["points_error"] == pytest.approx(2 * 0.15 / 3**0.5)
  text = comparison.sentence("macs", own)
  assert "are the cheapest: 20.0 % below" in text and "that differ" in text


def test_measured_costs_count_before_those_by_table():
  networks = [row(0, "macs", "a", 92.0, 80.0)]
  result = {"measured": {"macs": {"a": [1.0, 3.0]}}}
  assert comparison.cost_of(result, networks[0], "macs") == 2.0
  assert comparison.cost_of(result, networks[0], "parameters") == 80.0
  noise = comparison.noise_of(result, "macs")
  assert noise == pytest.approx(np.std(np.log([1, 3]), ddof=1) / 2**0.5)
