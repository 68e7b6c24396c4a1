import time

import jax
import pytest

import proxyless_jax as pj
from proxyless_jax.hardware import runtime as runtimes
from proxyless_jax.hardware.onnx_runtime import onnx
from proxyless_jax.hardware.runtime import STOPWATCH, Meter, metered, xla
from proxyless_jax.space import Chain


@pytest.fixture(scope="module")
def network(space):
  return space.choose(["mbconv2_k3", "zero", "mbconv1_k3"])


def test_random_images_are_those_that_a_network_reads():
  network = pj.zoo("resnet_18", image_size=(40, 64), channels=1)
  assert runtimes.random_images(network, 2).shape == (2, 40, 64, 1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_xla_runs_networks_and_blocks(network, dtype):
  runtime = xla(batch=2, dtype=dtype)
  assert runtime.unit == "ms" and f"{dtype}, batch 2" in runtime.name
  for part in (network, Chain((), (network.edges[0],), ())):
    sample = runtime.prepare(part)
    assert 0 < sample() < 1e4


def test_onnx_runs_networks_and_blocks(network):
  pytest.importorskip("onnxruntime")
  runtime = onnx(batch=2)
  assert runtime.unit == "ms" and "ONNX Runtime" in runtime.name
  for part in (network, Chain((), (network.edges[0],), ())):
    assert 0 < runtime.prepare(part)() < 1e4


def test_onnx_with_one_thread(network):
  pytest.importorskip("onnxruntime")
  runtime = onnx(threads=1)
  assert runtime.name.endswith(", batch 1, 1 thread")
  # Readings with other numbers of threads do not mix.
  assert runtime.setting == {**onnx().setting, "threads": 1}
  assert 0 < runtime.prepare(network)() < 1e4
  with pytest.raises(ValueError, match="threads = 0: expected 1 or more"):
    onnx(threads=0)


def test_a_missing_onnxruntime(monkeypatch):
  monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
  with pytest.raises(ImportError, match=r"install proxyless-jax\[onnx\]"):
    onnx()


def test_the_first_run_is_no_sample(network):
  runs = []
  meter = Meter("J", lambda run: (run(), 7.0)[1], 1)
  runtime = metered("it", lambda net: lambda: runs.append(net), meter, {})
  sample = runtime.prepare(network)
  assert runs == [network]
  assert sample() == 7.0 and len(runs) == 2
  assert (runtime.unit, runtime.samples, runtime.settled) == ("J", 1, False)


def test_the_stopwatch_is_in_milliseconds():
  assert 20 <= STOPWATCH.read(lambda: time.sleep(0.02)) < 200


@pytest.mark.parametrize(
  "arguments, message",
  [({"batch": 0}, "batch = 0"), ({"dtype": "int8"}, "dtype = 'int8'")],
)
def test_wrong_arguments(arguments, message):
  with pytest.raises(ValueError, match=message):
    xla(**arguments)


def test_what_readings_depend_on(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
  setting = {"batch": 2, "dtype": "bfloat16", "jax": jax.__version__}
  setting |= {"XLA_FLAGS": "--xla_cpu_enable_fast_math=false"}
  assert xla(2, "bfloat16").setting == setting


def test_the_name_of_the_processor(tmp_path, monkeypatch):
  one = {3}
  monkeypatch.setattr(
    runtimes.os, "sched_getaffinity", lambda pid: one, raising=False
  )
  assert runtimes.cpu_name().endswith(", 1 cores")
  path = tmp_path / "cpuinfo"
  path.write_text("model name\t: A CPU\n")
  assert runtimes._model(str(path)) == "A CPU"
  path.write_text("CPU implementer\t: 0x41\n")
  monkeypatch.setattr(runtimes.platform, "processor", lambda: "")
  monkeypatch.setattr(runtimes.platform, "machine", lambda: "aarch64")
  assert runtimes._model(str(path)) == "aarch64"


def test_public_job():
  assert callable(pj.measure)
