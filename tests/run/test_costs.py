"""Costs of a search: several at once, by gradient, REINFORCE, and calls."""

import copy
import dataclasses
import functools
import json
import math

import pytest

from proxyless_jax.hardware import cost_table
from proxyless_jax.nas import objective
from proxyless_jax.report import read_metrics
from proxyless_jax.run import jobs
from proxyless_jax.run.config.options import as_json, parse
from proxyless_jax.run.config.sections import CostOptions
from proxyless_jax.run.costs import keep_tables, make_costs
from proxyless_jax.space import load_network, macs, parameters

pytest.importorskip("mlxtend")


def cost(kind, form, reference, weight=0.05, exponent=0.1):
  return dict(
    kind=kind, form=form, reference=reference, weight=weight, exponent=exponent
  )


ASKED = []


def microjoules(network):
  """A function that only a call can tell, and that is never the same twice."""
  ASKED.append(network)
  return 1e-3 * macs(network) * (1 + 1e-3 * len(ASKED))


def reinforced(make_config, costs):
  config = make_config(
    search__arch__algorithm="reinforce",
    search__arch__entropy_weight=1e-3,
    search__costs=costs,
    train__enabled=False,
  )
  return config


def test_several_costs_by_gradient(make_config, tmp_path):
  costs = {
    "hardware": cost("macs", "exactly", "17.2 k MACs"),
    "bytes": cost("memory:bfloat16", "at_most", "2.0 kB"),
    "weights": cost("parameters", "linear", "1 k parameters"),
  }
  config = make_config(search__costs=costs, train__enabled=False)
  space = parse(config).make_space(10)
  memory = cost_table("memory:bfloat16", space)
  target = (memory.min_cost + memory.max_cost) / 2
  costs["bytes"]["reference"] = f"{target / 1024} KiB"
  result = jobs.search(config, tmp_path)
  network = load_network(tmp_path / "architecture.json")
  assert result["cost_hardware"] == macs(network)
  assert result["met_hardware"] == (abs(macs(network) / 17.2e3 - 1) <= 0.02)
  assert result["cost_bytes"] == memory.exact(network)
  assert result["unit_bytes"] == "bytes"
  assert result["target_bytes"] == pytest.approx(target)
  assert result["met_bytes"] == (result["cost_bytes"] <= target)
  assert result["cost_weights"] == parameters(network)
  line = read_metrics(tmp_path)[-1]
  for name in costs:
    for metric in ("expected", "derived", "multiplier"):
      assert math.isfinite(line[f"{metric}_{name}"])


def test_reinforce_by_tables(make_config, tmp_path):
  config = reinforced(
    make_config, {"hardware": cost("macs", "multiplicative", "9 k MACs")}
  )
  result = jobs.search(config, tmp_path)
  network = load_network(tmp_path / "architecture.json")
  assert result["cost_hardware"] == macs(network)
  assert not (tmp_path / "calls.jsonl").exists()
  line = read_metrics(tmp_path)[-1]
  assert {"reward", "baseline", "entropy", "arch_top1"} <= set(line)
  assert 7360 <= line["expected_hardware"] <= 36160


class Stop(Exception):
  pass


def test_reinforce_by_calls_resumes_as_it_was(
  make_config, outcome, monkeypatch, tmp_path
):
  """Though a second call would not say the same again."""
  costs = {
    "energy": cost(microjoules, "at_most", "9 uJ"),
    "hardware": cost("macs", "absolute", "9 k MACs"),
  }
  config = reinforced(make_config, costs)
  config["run"].update(log_every=2, checkpoint_every=3)
  ASKED.clear()
  result = jobs.search(copy.deepcopy(config), tmp_path / "whole")
  lines = (tmp_path / "whole" / "calls.jsonl").read_text().splitlines()
  calls = [json.loads(line) for line in lines]
  assert len({tuple(call["network"]) for call in calls}) == len(ASKED)
  assert {call["cost"] for call in calls} == {"energy"}
  network = load_network(tmp_path / "whole" / "architecture.json")
  ops = [edge.op.name for edge in network.edges]
  assert [result["cost_energy"]] == [
    call["value"] for call in calls if call["network"] == ops
  ]
  assert result["unit_energy"] == "uJ"
  assert result["met_energy"] == (result["cost_energy"] <= 9.0)
  saved = json.loads((tmp_path / "whole" / "config.json").read_text())
  assert saved["search"]["costs"]["energy"]["kind"] == "microjoules"

  run_stage = jobs.run_stage

  def stopping(stage, *args):
    def advance(state, step):
      if step == 11:
        raise Stop
      return stage.advance(state, step)

    return run_stage(type(stage)(**{**vars(stage), "advance": advance}), *args)

  ASKED.clear()
  with monkeypatch.context() as patch:
    patch.setattr(jobs, "run_stage", stopping)
    with pytest.raises(Stop):
      jobs.search(copy.deepcopy(config), tmp_path / "broken")
  with open(tmp_path / "broken" / "calls.jsonl", "a") as file:
    file.write('{"cost": "energy", "netw')  # As if it had been killed here.
  jobs.search(copy.deepcopy(config), tmp_path / "broken")
  assert outcome(tmp_path / "broken") == outcome(tmp_path / "whole")


def test_forms_of_a_config(make_config):
  space = parse(make_config()).make_space(10)
  options = {
    "a": CostOptions(**cost("macs", "linear", "9 k", 0.1)),
    "b": CostOptions(**cost("macs", "log", "9 k", 0.2, 0.3)),
    "c": CostOptions(**cost("macs", "multiplicative", "9 k", 0.0, 0.1)),
    "d": CostOptions(**cost(len, "absolute", "9 mJ", 0.1)),
    "e": CostOptions(**cost("macs", "at_most", "9 k", 0.1)),
    "f": CostOptions(**cost("macs", "exactly", "9 k", 0.1)),
  }
  costs = make_costs(options, space)
  assert [c.form for c in costs] == [
    objective.Linear(0.1, 9e3),
    objective.Log(0.2, 0.3, 9e3),
    objective.Multiplicative(9e3, 0.1),
    objective.Absolute(9.0, 0.1),
    objective.AtMost(9e3, 0.1),
    objective.Exactly(9e3, 0.1),
  ]
  assert [c.name for c in costs] == list(options)
  assert costs[3].table is None and costs[0].table.unit == "MACs"
  with pytest.raises(
    ValueError, match=r"costs\.d\.reference = '9': .*its unit"
  ):
    make_costs({"d": CostOptions(**cost(len, "absolute", "9"))}, space)


@pytest.mark.parametrize(
  ("costs", "message"),
  [
    (
      {"hardware": cost("macs", "exactly", "8 k MACs")},
      r"all targets; the nearest has hardware .* the target exactly 8,000",
    ),
    (
      {
        "a": cost("macs", "at_most", "9 k MACs"),
        "b": cost("macs", "exactly", "30 k MACs"),
      },
      "meets all targets; the nearest has a .* at most 9,000, b .*: change",
    ),
    (
      {"hardware": cost("macs", "at_most", "1 M MACs")},
      "36,160 MACs, the most expensive one; every architecture meets this",
    ),
  ],
)
def test_targets_that_nothing_keeps(make_config, tmp_path, costs, message):
  config = make_config(search__costs=costs, train__enabled=False)
  with pytest.raises(ValueError, match=message):
    jobs.search(config, tmp_path)
  assert not list(tmp_path.iterdir())


def test_large_costs_are_shown_without_exponents(make_config):
  space = parse(make_config(data__image_size=256)).make_space(10)
  options = CostOptions(**cost("macs", "at_most", "1 G MACs", exponent=0.0))
  with pytest.raises(ValueError, match=r"to \d+,\d{3},\d{3} MACs, the most"):
    make_costs({"hardware": options}, space)


@pytest.mark.parametrize(
  ("form", "reference", "meant"),
  [
    ("at_most", "9", "9 k MACs"),
    ("exactly", "9 MACs", "9 k MACs"),
    ("linear", "9", "9 k MACs"),
    ("multiplicative", "9", "9 k MACs"),
    ("linear", "9 M", "9 k MACs"),
    ("at_most", "9 M", "9 k MACs"),
  ],
)
def test_a_reference_with_a_wrong_prefix(make_config, form, reference, meant):
  space = parse(make_config()).make_space(10)
  options = CostOptions(**cost("macs", form, reference, exponent=0.3))
  with pytest.raises(
    ValueError, match=rf"; did you mean '{meant}'\?$"
  ) as error:
    make_costs({"a": options}, space)
  assert f"search.costs.a.reference = '{reference}': " in str(error.value)


@pytest.mark.parametrize("reference", ["1 k", "900 k", "1"])
def test_a_reference_outside_the_costs_is_no_target(make_config, reference):
  space = parse(make_config()).make_space(10)
  # One MAC can mean nothing else: with any prefix it is no cost of this space.
  options = CostOptions(**cost("macs", "linear", reference, 0.1))
  make_costs({"a": options}, space)


def test_forms_that_have_no_value_for_a_table(make_config, tmp_path):
  space = parse(make_config()).make_space(10)
  table = cost_table("macs", space)
  path = str(tmp_path / "table.json")
  dataclasses.replace(table, costs=table.costs / 1e6, fixed=0.0).to_json(path)
  for form, message in [("log", "above 1, got"), ("multiplicative", "above 0")]:
    options = CostOptions(**cost(path, form, "9 k"))
    with pytest.raises(ValueError, match=rf"a\.form = '{form}': .*{message}"):
      make_costs({"a": options}, space)
  with pytest.raises(ValueError, match=r"exponent = 0\.0: expected a positive"):
    CostOptions(**cost("macs", "log", "9 k", 0.2, 0.0))
  options = CostOptions(**cost("macs", "log", "1"))
  with pytest.raises(ValueError, match=r"search\.costs\.a\.reference = 1\.0"):
    make_costs({"a": options}, space)


def test_a_table_that_changes_under_a_search(
  make_config, monkeypatch, tmp_path
):
  def stop(*args):
    raise Stop

  monkeypatch.setattr(jobs, "run_stage", stop)
  space = parse(make_config()).make_space(10)
  table = cost_table("macs", space)
  path = tmp_path / "table.json"
  costs = {"board": cost(str(path), "linear", "9 k")}
  config = make_config(search__costs=costs, train__enabled=False)
  table.to_json(path)
  with pytest.raises(Stop):
    jobs.search(copy.deepcopy(config), tmp_path / "run")
  dataclasses.replace(table, source="elsewhere").to_json(path)
  keep_tables(tmp_path / "run", make_costs(parse(config).search.costs, space))
  dataclasses.replace(table, costs=2 * table.costs).to_json(path)
  kept = (tmp_path / "run" / "tables.json").read_text()
  (tmp_path / "run" / "tables.json").write_text("[]")
  message = (
    r"tables\.json: expected a JSON object, such as \{\.\.\.\}, got \[\];"
  )
  with pytest.raises(ValueError, match=message):
    jobs.search(copy.deepcopy(config), tmp_path / "run")
  (tmp_path / "run" / "tables.json").write_text(kept)
  message = r"costs\.board\.kind: the table \(counted\) is not the one that"
  with pytest.raises(ValueError, match=message):
    jobs.search(copy.deepcopy(config), tmp_path / "run")


class Board:
  """A function that is an object."""

  def __call__(self, network):
    return macs(network)


def half(network, by):
  return macs(network) / by


@pytest.mark.parametrize(
  ("kind", "name"),
  [
    (functools.partial(half, by=2), "half"),
    (functools.partial(functools.partial(half, by=2)), "half"),
    (Board(), "Board"),
    (functools.partial(Board()), "Board"),
    (Board().__call__, "Board.__call__"),
    ("macs", "macs"),
  ],
)
def test_names_of_functions_in_the_kept_config(make_config, kind, name):
  config = make_config(search__costs={"board": cost(kind, "absolute", "9 mJ")})
  config["search"]["arch"]["algorithm"] = "reinforce"
  kept = as_json(parse(config))["search"]["costs"]["board"]["kind"]
  assert kept == name
