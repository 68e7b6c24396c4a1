"""The measured spaces are those of the configs, which need other packages."""

import csv
import pathlib

import pytest

from configs import imagenet_gpu, mnist
from experiments import workloads
from proxyless_jax.run.options import parse
from proxyless_jax.space import macs

DATA = pathlib.Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.parametrize(
  "config, classes, space",
  [
    (imagenet_gpu.get_config(), 1000, workloads.imagenet()),
    (mnist.get_config(), 10, workloads.digits()),
  ],
  ids=("imagenet", "digits"),
)
def test_spaces_are_those_of_the_configs(config, classes, space):
  assert parse(config).make_space(classes=classes) == space


def test_macro_counts_what_nas_bench_macro_does():
  path = DATA / "nas_bench_macro_cifar10.csv"
  if not path.exists():
    pytest.skip(f"{path} is absent: the table of NAS-Bench-Macro")
  with open(path, newline="") as file:
    rows = [row for _, row in zip(range(6561), csv.DictReader(file))]
  space = workloads.macro()
  for row in rows[::500]:
    network = space.choose([int(digit) for digit in row["arch"]])
    assert macs(network) == int(float(row["flops"]))


def test_paths_have_no_skipped_block():
  for make in workloads.SPACES.values():
    space = make()
    assert all(name.startswith("mbconv") for name in workloads.path_of(space))
    assert workloads.chosen(space)
