"""The measured spaces are those of the configs, which need other packages."""

import pytest

from experiments import workloads
from proxyless_jax.configs import imagenet_gpu, mnist, mnist_plain
from proxyless_jax.run.config.options import parse


def plain_digits():
  config = mnist.get_config()
  mnist_plain.plain(config)
  return config


@pytest.mark.parametrize(
  "config, classes, space",
  [
    (imagenet_gpu.get_config(), 1000, workloads.imagenet()),
    (plain_digits(), 10, workloads.digits()),
  ],
  ids=("imagenet", "digits"),
)
def test_spaces_are_those_of_the_configs(config, classes, space):
  assert parse(config).make_space(classes=classes) == space


def test_paths_have_no_skipped_block():
  for make in workloads.SPACES.values():
    space = make()
    assert all(name.startswith("mbconv") for name in workloads.path_of(space))
    assert workloads.chosen(space)
