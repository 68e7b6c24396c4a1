"""The stage that trains an architecture, as far as no step is needed."""

import pytest

from proxyless_jax.data import load
from proxyless_jax.run import train_stage
from proxyless_jax.run.config.options import parse

pytest.importorskip("mlxtend")


def test_a_ramp_that_rounds_to_all_steps_leaves_the_cosine_one(make_config):
  config = make_config()
  config["train"]["lr_warmup_epochs"] = 0.99 * config["train"]["epochs"]
  options = parse(config)
  dataset = load(options.data)
  space = options.make_space(dataset.classes)
  network = space.choose([0] * len(space.edges))
  stage = train_stage.train_stage(options, dataset, network, None)
  for iterator in stage.iterators.values():
    iterator.close()
  assert stage.steps > 1
