"""The experiment on NAS-Bench-Macro from its command to its files.

The table and the images are made up, and so is the supernet, which computes
nothing: the compiled loops have tests of their own.
"""

import dataclasses
import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import cifar10, nas_bench_macro
from experiments.macro import benchmark, command, pairwise, results, training
from proxyless_jax.hardware import cost_table
from proxyless_jax.nas.gates import valid_candidates
from proxyless_jax.nas.state import SearchState
from proxyless_jax.training.metrics import once
from tests.experiments.made_up import WORTH, write_table


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data")
  write_table(folder, np.random.default_rng(0), deviation=0.02)
  return folder


class MadeUp:
  """A supernet whose losses follow `WORTH`; the class counts its steps."""

  steps = 0
  stop_at = math.inf

  def __init__(self, settings, weights, held_out):
    self.valid = np.asarray(valid_candidates(benchmark.space()))
    table = cost_table("macs", benchmark.space())
    self.table = dataclasses.replace(
      table, costs=table.costs / 1e6, fixed=table.fixed / 1e6
    )

  def init(self, seed):
    zeros = dict.fromkeys(("multipliers", "baseline", "updates"), jnp.zeros(()))
    of_weights = dict(params={"w": jnp.ones(2)}, batch_stats={}, opt_state=())
    return SearchState(
      step=jnp.int32(0),
      arch=jnp.zeros((8, 3)),
      arch_opt_state=(),
      key=jax.random.key(seed),
      **zeros,
      **of_weights,
    )

  def warm_up(self, state, count):
    if MadeUp.steps + count > MadeUp.stop_at:
      raise KeyboardInterrupt
    MadeUp.steps += count
    return state.replace(step=state.step + count), {"loss": once(1.0)}

  def begin_search(self, variables, seed):
    return self.init(seed)

  def search(self, state, target, count, algorithm):
    arch = jnp.zeros((8, 3)).at[:, 1].set(1.0)
    return state.replace(arch=arch), {"loss": once(1.0)}

  def score(self, variables, paths, images, batch):
    loss = 3 - WORTH[np.arange(8), paths].sum(axis=1)
    return 100 / loss, loss


@pytest.fixture
def made_up(monkeypatch):
  images = cifar10.Images(np.zeros((60, 1)), np.arange(60) % 10)
  monkeypatch.setattr(cifar10, "load", lambda path, per_class: (images, images))
  monkeypatch.setattr(training, "Supernet", MadeUp)
  monkeypatch.setattr(MadeUp, "steps", 0)
  monkeypatch.setattr(MadeUp, "stop_at", math.inf)


def flags_of(data, out, *more):
  small = "--paths 250 --set batch=2 --warmup-epochs 2 --epochs 1"
  return ["--out", str(out), "--data", str(data), *small.split(), *more]


def test_a_stopped_experiment_goes_on_and_says_what_it_found(
  made_up, data, tmp_path, capsys
):
  flags = flags_of(data, tmp_path, "--seeds", "3")
  MadeUp.stop_at = 9
  with pytest.raises(KeyboardInterrupt):
    nas_bench_macro.main(flags)
  before, MadeUp.stop_at = MadeUp.steps, math.inf
  assert 0 < before <= 9
  found = nas_bench_macro.main(flags)
  (supernet,) = found["supernets"]
  assert MadeUp.steps == supernet["record"][-1]["step"]  # None done twice.
  # The table follows the losses, so a model of them finds the best or nearly.
  assert found["totals"]["additive"]["in_best_1_percent"] == 3
  assert found["totals"]["additive"]["median_regret"] < 0.1
  assert found["resampled"]["in_best_5_percent"] > 0.9
  algorithms = sorted(command.ALGORITHMS)
  assert sorted(found["totals"]) == algorithms
  assert found["totals"]["full"]["entropy_end"][0] > 0.5
  for entry in found["searches"]:
    assert entry["found"]["macs"] <= entry["target"] * 1e6
  kept = json.loads((tmp_path / "nas_bench_macro.json").read_text())
  assert kept["totals"] == found["totals"]
  assert (tmp_path / "nas_bench_macro.png").stat().st_size > 10_000
  steps = MadeUp.steps
  nas_bench_macro.main(flags)
  assert MadeUp.steps == steps
  assert "additive" in capsys.readouterr().out


def test_a_folder_is_of_one_setting(made_up, data, tmp_path):
  flags = flags_of(data, tmp_path, "--algorithms", "additive")
  nas_bench_macro.main(flags)
  with pytest.raises(ValueError, match="use another folder"):
    nas_bench_macro.main([*flags, "--score-images", "1000"])


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    (["--algorithms", "bogus"], "invalid choice: 'bogus'"),
    (["--warmup-epochs", "-1"], "expected a number above 0"),
    (["--score-images", "300"], "a multiple of --score-batch 500"),
    (["--set", "lrr=3"], "lrr=3: expected FIELD=VALUE, of batch, paths"),
    (["--set", "fair=False"], "expected a number, true or false"),
    (["--set", "paths=2.7"], "expected int after ="),
    (["--set", "paths=0"], "expected a number above 0"),
    (["--set", "dtype=half"], "expected one of float32, bfloat16"),
  ],
)
def test_wrong_arguments_are_refused_at_once(wrong, message, tmp_path, capsys):
  with pytest.raises(SystemExit):
    nas_bench_macro.main(["--out", str(tmp_path), *wrong])
  assert message in capsys.readouterr().err


def test_a_target_that_no_network_meets(made_up, data, tmp_path):
  flags = flags_of(data, tmp_path, "--targets", "3")
  with pytest.raises(ValueError, match=r"--targets 3: .* cheapest network, 7"):
    nas_bench_macro.main(flags)


def test_what_nobody_searched(data):
  table = benchmark.load(data / nas_bench_macro.TABLE)
  (found,) = results.of_random(table, [60.0])
  near = (table.macs <= 60e6) & (table.macs >= 54e6)
  assert found["all"]["networks"] == near.sum()
  kept = [path for path in table.paths[near] if path[0] and path[2] and path[5]]
  assert found["without_identity"]["networks"] == len(kept)
  best, within = 0, []
  for path, macs in zip(table.paths, table.macs):
    if macs <= 60e6:
      within.append((np.count_nonzero(path), macs))
  best = max(within)
  row = table.row([int(digit) for digit in found["rule"]["arch"]])
  assert (np.count_nonzero(table.paths[row]), table.macs[row]) == best


def test_a_pairwise_model_finds_an_interaction():
  rng = np.random.default_rng(0)
  paths = rng.integers(3, size=(300, 4))
  value = 1.0 * (paths[:, 0] == 1) * (paths[:, 2] == 2) + 0.2 * paths[:, 3]
  others = np.array(list(itertools.product(range(3), repeat=4)))
  predicted = pairwise.predict(paths, value, others, 3)
  wanted = 1.0 * (others[:, 0] == 1) * (others[:, 2] == 2) + 0.2 * others[:, 3]
  np.testing.assert_allclose(predicted, wanted, atol=0.05)
