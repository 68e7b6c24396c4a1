"""Short runs give the numbers that they gave before: golden.json.

They run by XLA alone, without the kernels for CPUs, which round in another way.
XLA makes other programs for another CPU, and other versions draw or round in
other ways. So the numbers are the same bit for bit where the file was made, and
elsewhere close; what is drawn and derived is the same everywhere. A change that
means to change the numbers makes the file anew, and says so:

  GOLDEN=make python -m pytest tests/run/test_golden.py
  GOLDEN=make JAX_NUM_CPU_DEVICES=8 python -m pytest tests/run/test_golden.py
"""

import importlib.metadata
import json
import os
import pathlib
import platform
import zlib

import jax
import pytest

from proxyless_jax.nn import cpu_kernels
from proxyless_jax.report import read_metrics
from proxyless_jax.run import jobs
from proxyless_jax.space import load_network

pytest.importorskip("mlxtend")
pytestmark = pytest.mark.usefixtures("quick_compilation", "by_xla_alone")

FILE = pathlib.Path(__file__).with_name("golden.json")
DEVICES = 8
AT_MOST = dict(
  kind="macs", form="at_most", reference="15 k MACs", weight=0.05, exponent=0.3
)
LOG = AT_MOST | dict(form="log", reference="9 k MACs", weight=0.2, exponent=0.6)
SEARCH_ALONE = dict(train__enabled=False, search__costs={"macs": AT_MOST})
# Two candidates, Adam, a limit; then a training with EMA and drop path.
ON_ONE_DEVICE = {
  "gradient": dict(train__drop_path=0.2, search__costs={"macs": AT_MOST}),
  "full": SEARCH_ALONE
  | dict(
    search__arch__mode="full",
    search__grad_accum=2,
    search__arch__grad_accum=2,
    search__costs={"macs": LOG},
  ),
  "reinforce": SEARCH_ALONE | dict(search__arch__algorithm="reinforce"),
  "tree": SEARCH_ALONE
  | dict(
    space=dict(
      family="tree",
      stem_width=4,
      alpha=4,
      depths=(1,),
      candidates=("identity", "sep_conv_3", "max_pool_3"),
    ),
    search__costs={},
  ),
}
ON_EIGHT = SEARCH_ALONE | dict(search__path_per_device=True)
UNSTEADY = (
  *("seconds_", "peak_memory", "version_", "device", "hosts"),
  "unfinished",  # Words.
)


@pytest.fixture
def by_xla_alone():
  with cpu_kernels.enabled(False):
    yield


@pytest.mark.parametrize("name", ON_ONE_DEVICE)
def test_numbers_are_those_of_before(make_config, tmp_path, name):
  if jax.device_count() > 1:
    pytest.skip("the numbers are those of one device")
  jobs.search(make_config(**ON_ONE_DEVICE[name]), tmp_path)
  compare(name, numbers_of(tmp_path))


def test_numbers_of_a_path_per_device(make_config, tmp_path):
  if jax.device_count() != DEVICES:
    pytest.skip(
      "needs 8 devices: tests/test_eight_devices.py runs it with them"
    )
  jobs.search(make_config(**ON_EIGHT), tmp_path)
  compare("path_per_device", numbers_of(tmp_path))


def numbers_of(workdir):
  result = json.loads((workdir / "result.json").read_text())
  network = load_network(workdir / "architecture.json")
  return {
    "architecture": [edge.op.name for edge in network.edges],
    "result": {
      name: value
      for name, value in result.items()
      if not name.startswith(UNSTEADY)
    },
    "metrics": read_metrics(workdir),
  }


def compare(name, numbers):
  golden = json.loads(FILE.read_text())
  if os.environ.get("GOLDEN") == "make":
    golden["made_on"] = machine()
    golden["runs"][name] = numbers
    FILE.write_text(json.dumps(golden, indent=1) + "\n")
  expected = golden["runs"][name]
  if golden["made_on"] == machine():
    assert numbers == expected
  assert numbers["architecture"] == expected["architecture"]
  assert numbers["result"] == close_to(expected["result"])
  assert len(numbers["metrics"]) == len(expected["metrics"])
  for line, expected_line in zip(numbers["metrics"], expected["metrics"]):
    assert line == close_to(expected_line)


def close_to(fields):
  """The same names, texts and counts; other numbers within a ten-thousandth."""
  return {
    name: pytest.approx(value, rel=1e-4) if isinstance(value, float) else value
    for name, value in fields.items()
  }


def machine():
  """Where numbers may be expected to be the same bit for bit."""
  info = pathlib.Path("/proc/cpuinfo")
  lines = info.read_text().splitlines() if info.exists() else []
  flags = sorted({line for line in lines if line.startswith("flags")})
  packages = ("jax", "jaxlib", "numpy")
  return {
    "architecture": platform.machine(),
    "cpus": os.cpu_count(),
    "cpu_flags": zlib.crc32("\n".join(flags).encode()),
    **{name: importlib.metadata.version(name) for name in packages},
  }
