"""Trainings that start from weights of another task; frozen bodies."""

import json
import logging
import shutil

import jax
import numpy as np
import pytest

import proxyless_jax as pj
from proxyless_jax.data import load
from proxyless_jax.run import architecture, jobs, loop, train_stage
from proxyless_jax.run.config.options import parse
from proxyless_jax.training.state import split_edges
from tests.spaces import small_space

pytestmark = pytest.mark.usefixtures("quick_compilation_of_module")


def chain(size=12, channels=3, classes=1000, **widths):
  space = small_space(
    image_size=size,
    channels=channels,
    classes=classes,
    stem_stride=2,
    candidates=("mbconv3_k3", "mbconv3_k5"),
    head_width=16,
    **widths,
  )
  return space.choose(["mbconv3_k3", "mbconv3_k5"])


def trained_weights(network):
  """A state dict as if it were trained: features neither vanish nor grow."""
  rng = np.random.default_rng(0)
  weights = pj.to_torch(network, pj.init(pj.build(network), jax.random.key(7)))
  for name, array in weights.items():
    if array.ndim == 4:
      n = rng.standard_normal(array.shape)
      array = n * np.sqrt(2 / np.prod(array.shape[1:]))
    elif name.endswith("running_var"):
      array = 1 + 0.1 * rng.random(array.shape)
    weights[name] = np.asarray(array, weights[name].dtype)
  return weights


@pytest.fixture
def make(make_config, monkeypatch, tmp_path):
  """Makes the config of a training on three classes of generated images.

  The weights are read without PyTorch.
  """

  def make(network, weights, channels=3, **fields):
    own = str(tmp_path / "network.json")
    if isinstance(network, pj.Network):
      network.to_json(own)
    fields = dict(train__freeze=True, run__checkpoint_every=100) | fields
    config = make_config(
      job="train",
      network=own if isinstance(network, pj.Network) else network,
      weights="weights.pth",
      **fields,
    )
    config["data"].update(
      source="generated",
      generated_classes=3,
      generated_images=90,
      channels=channels,
      mean=(0.5,) * channels,
      std=(0.5,) * channels,
      test_fraction=0.3,
    )
    monkeypatch.setattr(
      "proxyless_jax.run.weights.read_torch", lambda path, part: weights
    )
    return config

  return make


def last_state(config, workdir):
  options = parse(config)
  dataset = load(options.data)
  network = architecture.find_network(
    options.network, workdir, options.data, dataset.classes
  )
  own = train_stage.train_stage(options, dataset, network, None)
  _, state = loop.newest_state(own, workdir, options.run)
  return network, state


def check_frozen(config, workdir, weights):
  """Asserts that the classifier alone has moved; gives its parameters."""
  network, state = last_state(config, workdir)
  (classifier,) = [network.layers[-1].name]
  given = pj.from_torch(network, weights, key=jax.random.key(0))
  body, _ = split_edges(given, {classifier})
  for found in (
    {"params": state.params, "batch_stats": state.batch_stats},
    state.ema,
  ):
    found, _ = split_edges(found, {classifier})
    assert jax.tree.structure(found) == jax.tree.structure(body)
    same = jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), found, body)
    assert all(jax.tree.leaves(same))
  # Nothing is kept for the optimizer of what it does not move.
  trace = jax.tree.leaves(state.opt_state)
  count = sum(leaf.size for leaf in jax.tree.leaves(state.params[classifier]))
  assert sum(leaf.size for leaf in trace if leaf.ndim) == count
  return state.params[classifier]


def test_the_classifier_of_a_zoo_network_learns_three_classes(
  make, tmp_path, caplog
):
  caplog.set_level(logging.WARNING, "absl")
  weights = trained_weights(pj.zoo("proxyless_gpu", image_size=32))
  config = make("proxyless_gpu", weights, data__image_size=32)
  config["train"].update(epochs=6.0, lr=0.2, dropout=0.0)
  result = jobs.train(config, tmp_path)
  assert "215 of 217 tensors are taken from the state dict; fresh: " in (
    caplog.text
  )
  assert "fresh: classifier (1000 classes there, 3 here)" in caplog.text
  lines = [
    json.loads(line)
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
  ]
  assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
  assert result["top1"] > 0.6
  check_frozen(config, tmp_path, weights)


def test_a_frozen_body_through_stops_parts_and_averages(make, tmp_path):
  weights = trained_weights(chain())
  fields = dict(
    train__grad_accum=2, train__ema_decay=0.9, train__weight_decay=0.1
  )
  config = make(chain(classes=3), weights, **fields, run__checkpoint_every=3)
  whole = jobs.train(config, tmp_path / "whole")
  kernel = check_frozen(config, tmp_path / "whole", weights)
  # A stop after the first checkpoint.
  shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
  folder = tmp_path / "stopped" / "checkpoints" / "train"
  steps = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())
  shutil.rmtree(folder / str(steps[-1]))
  again = jobs.train(config, tmp_path / "stopped")
  assert again["loss"] == whole["loss"]
  same = jax.tree.map(
    lambda a, b: a.tobytes() == b.tobytes(),
    check_frozen(config, tmp_path / "stopped", weights),
    kernel,
  )
  assert all(jax.tree.leaves(same))
  # What was trained is evaluated without the file.
  config.update(job="evaluate", weights="")
  found = jobs.evaluate(config, tmp_path / "whole")
  assert found["loss"] == whole["loss"] and found["step"] == steps[-1]


def test_fine_tuning_without_freezing_moves_all(make, tmp_path, caplog):
  weights = trained_weights(chain())
  config = make(chain(channels=1, classes=3), weights, channels=1)
  config["train"].update(freeze=False, weight_decay=0.0)
  jobs.train(config, tmp_path)
  assert "fresh: stem (3 channels there, 1 here), classifier" in caplog.text
  network, state = last_state(config, tmp_path)
  given = pj.from_torch(network, weights, key=jax.random.key(0))
  moved = jax.tree.map(
    lambda a, b: (a != b).any(), state.params, given["params"]
  )
  assert all(jax.tree.leaves(moved))


def test_what_cannot_be_frozen_is_refused(make, tmp_path):
  weights = trained_weights(chain())
  config = make(chain(channels=1, classes=3), weights, channels=1)
  with pytest.raises(ValueError, match=r"other channels: stem \(3 channels"):
    jobs.train(config, tmp_path / "run")
  config = make(chain(classes=3), weights)
  config["weights"] = ""
  with pytest.raises(ValueError, match=r"train\.freeze = True: expected False"):
    jobs.train(config, tmp_path / "run")
  config.update(job="search", network="")
  with pytest.raises(ValueError, match=r"train\.freeze = True: expected False"):
    jobs.search(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_weights_of_another_task_are_not_evaluated(make, tmp_path):
  config = make(chain(classes=3), trained_weights(chain()))
  config["job"] = "evaluate"
  with pytest.raises(
    ValueError,
    match=r"^weights = 'weights\.pth': .*1000 classes there, 3 here.*leave con",
  ):
    jobs.evaluate(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_weights_of_another_network_are_refused(make, tmp_path):
  space = pj.tree_space(image_size=12, stem_width=4, alpha=2, depths=(1,))
  weights = trained_weights(space.choose(["identity"] * 12))
  config = make(chain(classes=3), weights)
  listed = r"(?s)missing: first_conv.*extra: blocks"
  with pytest.raises(ValueError, match=listed):
    jobs.train(config, tmp_path / "run")
  config["job"] = "evaluate"
  with pytest.raises(ValueError, match=listed):
    jobs.evaluate(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  "name, part, file",
  [
    ("w.pth#state_dict.model", "state_dict.model", "w.pth"),
    ("w.pth", "", "w.pth"),
    ("w#1.pth", "", "w#1.pth"),
  ],
)
def test_a_part_of_a_file(make, monkeypatch, tmp_path, name, part, file):
  (tmp_path / "w#1.pth").write_bytes(b"")
  config = make(chain(classes=3), {})
  config["weights"] = str(tmp_path / name)
  asked = []

  def read(*args):
    asked.append(args)
    raise ValueError("stop")

  monkeypatch.setattr("proxyless_jax.run.weights.read_torch", read)
  with pytest.raises(ValueError, match="stop"):
    jobs.train(config, tmp_path / "run")
  assert asked == [(str(tmp_path / file), part)]
