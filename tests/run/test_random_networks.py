"""Job 'random': networks within the targets, trained as the found one is."""

import json

import numpy as np
import pytest

import proxyless_jax as pj
from proxyless_jax.nas import objective
from proxyless_jax.run import random_networks
from proxyless_jax.run.config.options import parse
from proxyless_jax.run.costs import make_costs
from proxyless_jax.run.storage.json_files import read_json
from proxyless_jax.run.story import summary

EPOCHS = 2 * 16 / 4897  # Two steps of the training.


@pytest.fixture
def config(make_config):
  pytest.importorskip("mlxtend")
  config = make_config(random=dict(count=2, near=0.5), train__epochs=EPOCHS)
  config["search"]["costs"]["hardware"]["reference"] = "20 k MACs"
  return config


def test_drawn_networks_are_near_their_target(config):
  config["random"]["count"] = 20
  options = parse(config, "random")
  space = options.make_space(10)
  costs = make_costs(options.search.costs, space)
  networks = random_networks.drawn_networks(options, space, costs)
  assert len(networks) == len(set(networks)) > 2
  macs = np.array([pj.macs(network) for network in networks])
  assert np.all((macs <= 20_000) & (macs >= 10_000))
  again = random_networks.drawn_networks(options, space, costs)
  assert networks == again


@pytest.mark.parametrize("tight", [False, True])
def test_of_several_targets_all_are_met_and_one_is_near(config, tight):
  """Also where no network is near both."""
  hardware = config["search"]["costs"]["hardware"]
  other = dict(hardware, kind="parameters", reference="1.3 k parameters")
  config["search"]["costs"]["second"] = other
  options = parse(config, "random")
  space = options.make_space(10)
  of_macs, of_parameters = make_costs(options.search.costs, space)
  least = of_parameters.table.min_cost
  if tight:
    form = objective.AtMost(1.1 * least, 0.1)
    of_parameters = of_parameters._replace(form=form)
  costs = of_macs, of_parameters
  networks = random_networks.drawn_networks(options, space, costs)
  assert networks
  assert all(pj.macs(network) <= 20_000 for network in networks)
  near = [pj.macs(network) >= 10_000 for network in networks]
  assert all(near) if not tight else not any(near)
  most = of_parameters.form.target
  assert all(pj.parameters(network) <= most for network in networks)
  assert of_macs.table.max_cost > 20_000


def test_the_found_network_is_none_of_the_random_ones(tmp_path):
  for name, content in {
    "result.json": {"job": "search", "top1": 0.5},
    "architecture.json": {"edges": [{"ops": ["a"]}, {"ops": ["b"]}]},
    "random.json": [
      {"ops": ["a", "b"], "top1": 0.5},
      {"ops": ["a", "c"], "top1": 0.1},
      {"ops": ["b", "b"], "top1": 0.3},
    ],
  }.items():
    (tmp_path / name).write_text(json.dumps(content))
  result = random_networks.with_random(tmp_path, {})
  assert result["random_count"] == 2
  assert result["random_z"] == pytest.approx((0.5 - 0.2) / np.sqrt(0.02))
  # Nor is there a mean of none.
  only = [{"ops": ["a", "b"], "top1": 0.5}]
  (tmp_path / "random.json").write_text(json.dumps(only))
  (tmp_path / "result.json").write_text('{"job": "search", "top1": 0.5}')
  result = random_networks.with_random(tmp_path, {})
  assert result["random_count"] == 0 and "random_z" not in result


def test_stopped_between_two_it_trains_no_network_again(
  config, monkeypatch, tmp_path
):
  trained = []
  run_stage = random_networks.run_stage

  def stopping(stage, folder, options):
    if len(trained) == 1 and not monkeypatched:
      monkeypatched.append(True)
      raise KeyboardInterrupt
    trained.append(folder)
    return run_stage(stage, folder, options)

  monkeypatched = []
  monkeypatch.setattr(random_networks, "run_stage", stopping)
  with pytest.raises(KeyboardInterrupt):
    pj.random_networks(config, tmp_path)
  assert len(read_json(tmp_path / "random.json")) == 1
  result = pj.random_networks(config, tmp_path)
  assert [folder[-2:] for folder in trained] == ["00", "01"]
  entries = read_json(tmp_path / "random.json")
  top1 = [entry["top1"] for entry in entries]
  assert result["random_top1_mean"] == pytest.approx(np.mean(top1))
  assert result["random_top1_std"] == pytest.approx(np.std(top1, ddof=1))
  assert result["random_count"] == 2 and "random_z" not in result
  assert "2 trained random networks: " in summary(result, "run")
  # More are drawn; those that are there stay.
  config["random"]["count"] = 3
  pj.random_networks(config, tmp_path)
  assert read_json(tmp_path / "random.json")[:2] == entries
  assert trained[-1].endswith("02") and len(trained) == 3


def test_the_found_network_is_compared(config, unbroken, tmp_path):
  (tmp_path / "random.json").write_text('[{"top1": 0.1}, {"top1": 0.3}]')
  found = {"job": "search", "top1": 0.5, "images": 103}
  (tmp_path / "result.json").write_text(json.dumps(found))
  config["random"]["count"] = 2
  result = pj.random_networks(config, tmp_path)
  assert result["random_z"] == pytest.approx((0.5 - 0.2) / np.sqrt(0.02))
  assert "it is 2.1 of these above their mean" in summary(result, "run")
  assert read_json(tmp_path / "result.json")["job"] == "search"


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    (dict(train__inherit=True), "expected False for job 'random'"),
    (dict(train__freeze=True), "expected False for job 'random'"),
    (dict(network="proxyless_gpu"), "expected '' for job 'random'"),
    (dict(random=dict(near=1.0)), r"random\.near = 1\.0"),
    (dict(random=dict(count=0)), r"random\.count = 0"),
  ],
)
def test_wrong_options_are_refused(make_config, fields, message):
  with pytest.raises(ValueError, match=message):
    parse(make_config(**fields), "random")
