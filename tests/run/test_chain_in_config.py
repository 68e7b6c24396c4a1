"""A chain of the user's own as the space of a config, through whole runs.

The chain is NAS-Bench-Macro's space (Su et al., CVPR 2021), whose blocks of
stride 2 have a 1x1 convolution as a candidate, which no function of the package
makes.
"""

import dataclasses
import json

import jax
import pytest
from ml_collections import ConfigDict

import proxyless_jax as pj
from experiments.macro import benchmark
from proxyless_jax.run import jobs
from proxyless_jax.run.config.options import as_json, parse
from proxyless_jax.space import Classifier, ConvBN, MBConv, Zero
from proxyless_jax.space.networks.chain import ChainBuilder


def macro_space(
  widths=(64, 128, 256), depths=(2, 3, 3), head_width=1280
) -> pj.Chain:
  chain = ChainBuilder(3, 32)
  stem = chain.add("stem", (ConvBN(3, "relu", 1e-5),), 32)
  blocks = tuple(
    MBConv(expand, kernel, activation="relu", epsilon=1e-5)
    for expand, kernel in ((3, 3), (6, 5))
  )
  edges = []
  for width, depth in zip(widths, depths):
    for stride in [2] + [1] * (depth - 1):
      least = ConvBN(1, "linear", 1e-5) if stride == 2 else Zero()
      name, ops = f"block{len(edges) + 1}", (least, *blocks)
      edges.append(chain.add(name, ops, width, stride, shortcut=stride == 1))
  head = chain.add("head", (ConvBN(1, "relu", 1e-5),), head_width)
  classifier = chain.add("classifier", (Classifier(),), 10)
  return pj.Chain((stem,), tuple(edges), (head, classifier))


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
  """Most of the time here is XLA's; what is computed stays the same."""
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


def config_of(space) -> ConfigDict:
  config = pj.configs.cifar10.get_config("smoke")
  config.space = space
  config.search.costs.hardware = pj.configs.base.cost(
    "macs", "1.3 M MACs", form="at_most", weight=0.05
  )
  config.search.update(warmup_epochs=0.2, epochs=0.4, batch=8)
  config.search.arch.update(batch=4, every=1)
  config.train.update(epochs=0.3, inherit=True, drop_path=0.0)
  # Optimizers by name: their states are in the checkpoints.
  config.search.optimizer, config.search.arch.optimizer = "lion", "adamw"
  config.train.optimizer = "adam"
  config.evaluate.recalibration_batches = 1
  config.run.update(log_every=1, checkpoint_every=2)
  return config


class Stop(Exception):
  pass


def test_a_search_stopped_resumed_trained_and_evaluated(tmp_path, monkeypatch):
  run_stage = jobs.run_stage

  def stopping(stage, *args):
    def advance(state, step):
      if step == 5:
        raise Stop
      return stage.advance(state, step)

    return run_stage(dataclasses.replace(stage, advance=advance), *args)

  # Compiling all eight blocks would take minutes; the kinds of edges are these.
  space = macro_space((8, 16), (2, 1), 32)
  with monkeypatch.context() as patch:
    patch.setattr(jobs, "run_stage", stopping)
    with pytest.raises(Stop):
      pj.search(config_of(space), tmp_path)
  saved = json.loads((tmp_path / "config.json").read_text())
  assert saved["space"] == json.loads(space.to_json())
  result = pj.search(config_of(space), tmp_path)
  assert result["cost_hardware"] == result["macs"] <= 1.3e6
  network = pj.load_network(tmp_path / "architecture.json")
  assert space.choose([edge.op.name for edge in network.edges]) == network

  config = config_of(space)
  config.job = "evaluate"
  assert pj.evaluate(config, tmp_path)["top1"] == result["top1"]

  edge = dataclasses.replace(space.edges[2], ops=space.edges[2].ops[:2])
  other = config_of(space.with_edges((*space.edges[:2], edge)))
  message = r"space\.edges\[2\]\.ops\[2\]\.name: .* in the workdir, absent now"
  with pytest.raises(ValueError, match=message):
    pj.search(other, tmp_path)


def test_the_space_is_the_network_itself():
  space = macro_space()
  assert space == benchmark.space()
  config = config_of(space)
  assert config.lock().space is space
  options = parse(config)
  assert options.make_space(10) is space
  assert as_json(options)["space"] == json.loads(space.to_json())
  assert parse({**config.to_dict(), "space": space}) == options


def test_the_space_is_the_json_of_a_network(tmp_path, monkeypatch):
  space = macro_space()
  space.to_json(tmp_path / "space.json")
  monkeypatch.setenv("HOME", str(tmp_path))
  assert parse(config_of("~/space.json")) == parse(config_of(space))
  path = tmp_path / "space.json"
  assert parse(config_of(path)) == parse(config_of(space))
  message = r"space = 'no.json': there is no such file"
  with pytest.raises(ValueError, match=message):
    parse(config_of("no.json"))
  text = (tmp_path / "space.json").read_text()
  (tmp_path / "own.json").write_text(text.replace("mbconv6_k5", "mine", 1))
  message = r"unknown operation 'mine.*pj\.load_network\(path, ops="
  with pytest.raises(ValueError, match=message):
    parse(config_of("~/own.json"))


@pytest.mark.parametrize(
  ("data", "message"),
  [
    (
      dict(image_size=(32, 48), crop="none"),
      r"space: the network has image_size = 32: expected image_size = \(32, 48",
    ),
    (dict(generated_classes=3), "has classes = 10: expected classes = 3, as"),
    (
      dict(channels=1, mean=(0.5,), std=(0.5,), generated_classes=3),
      "has channels = 3, classes = 10: expected channels = 1, classes = 3, as",
    ),
  ],
)
def test_a_network_that_does_not_fit_the_data(tmp_path, data, message):
  config = config_of(macro_space())
  config.data.update(data)
  with pytest.raises(ValueError, match=message):
    pj.search(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_an_architecture_is_no_space(tmp_path):
  config = config_of(macro_space().choose([1] * 8))
  message = (
    r"space: every edge of the network has one candidate: .* job 'train'"
  )
  with pytest.raises(ValueError, match=message):
    pj.search(config, tmp_path)
