import itertools
import sys
import types

import pytest

from proxyless_jax.hardware import energy


@pytest.fixture
def powercap(tmp_path):
  """Zones as Linux shows them; set(zone, microjoules) moves a counter."""
  zones = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "core",
    "intel-rapl:0:1": "dram",
    "intel-rapl:1": "psys",
  }
  for zone, name in zones.items():
    folder = tmp_path / zone
    folder.mkdir()
    (folder / "name").write_text(name + "\n")
    (folder / "max_energy_range_uj").write_text("1000000\n")
    (folder / "energy_uj").write_text("0\n")
  (tmp_path / "intel-rapl").mkdir()

  def set_(zone, microjoules):
    (tmp_path / zone / "energy_uj").write_text(f"{microjoules}\n")

  return tmp_path, set_


def test_rapl_adds_packages_and_memory(powercap):
  folder, set_ = powercap
  set_("intel-rapl:0", 500)
  read = energy.rapl_counter(str(folder))
  start = read()
  set_("intel-rapl:0", 3500)
  set_("intel-rapl:0:0", 9000)  # Part of the package.
  set_("intel-rapl:0:1", 2000)
  set_("intel-rapl:1", 9000)  # Has the package as a part.
  assert read() - start == pytest.approx(5.0)


def test_rapl_counters_begin_anew(powercap):
  folder, set_ = powercap
  set_("intel-rapl:0", 999_000)
  read = energy.rapl_counter(str(folder))
  start = read()
  set_("intel-rapl:0", 4_000)
  assert read() - start == pytest.approx(5.0)
  set_("intel-rapl:0", 3_000)
  assert read() - start == pytest.approx(1004.0)


def test_no_rapl(tmp_path):
  with pytest.raises(ValueError, match=r"found none.*NVML counts GPUs.*table"):
    energy.rapl_counter(str(tmp_path))


def test_rapl_that_may_not_be_read(powercap, monkeypatch):
  folder, _ = powercap

  def refuse(path):
    raise PermissionError(13, "Permission denied", path)

  monkeypatch.setattr(energy, "_microjoules", refuse)
  with pytest.raises(ValueError, match="may not be read: let this user read"):
    energy.rapl_counter(str(folder))


@pytest.fixture
def nvml(monkeypatch):
  """A module pynvml; `reads` are what its counter gives, in order."""
  module = types.ModuleType("pynvml")
  module.NVMLError = type("NVMLError", (Exception,), {})
  module.reads = itertools.count(1000, 250)
  module.nvmlInit = lambda: None
  module.uuids = ["GPU-aa11"]
  module.nvmlDeviceGetCount = lambda: len(module.uuids)
  module.nvmlDeviceGetUUID = lambda handle: module.uuids[int(handle[-1])]
  module.nvmlDeviceGetHandleByIndex = lambda index: f"GPU {index}"
  module.nvmlDeviceGetTotalEnergyConsumption = lambda handle: next(module.reads)
  monkeypatch.setitem(sys.modules, "pynvml", module)
  return module


def test_nvml(nvml):
  read = energy.energy_counter("gpu")
  first = read()
  assert read() - first == 250.0


def test_a_gpu_without_a_counter(nvml):
  def refuse(handle):
    raise nvml.NVMLError("Not Supported")

  nvml.nvmlDeviceGetTotalEnergyConsumption = refuse
  with pytest.raises(ValueError, match=r"GPU 0 \(Not Supported\).*RAPL.*table"):
    energy.nvml_counter()


@pytest.mark.parametrize(
  "ordinal, visible, order, gpu",
  [
    (0, "1,0", "PCI_BUS_ID", 1),
    (1, "2,0", "PCI_BUS_ID", 0),
    (1, None, "PCI_BUS_ID", 1),
    (1, "GPU-aa11,GPU-bb", None, 1),
  ],
)
def test_the_gpu_that_computes(nvml, ordinal, visible, order, gpu):
  nvml.uuids = ["GPU-aa11", "GPU-bb22", "GPU-cc33"]
  read = []
  nvml.nvmlDeviceGetTotalEnergyConsumption = lambda h: read.append(h) or 0
  names = {"CUDA_VISIBLE_DEVICES": visible, "CUDA_DEVICE_ORDER": order}
  energy.nvml_counter(ordinal, {k: v for k, v in names.items() if v})
  assert read == [f"GPU {gpu}"]


@pytest.mark.parametrize(
  "visible, order",
  [("1", None), ("GPU-b", None), ("MIG-1", None), ("7", "PCI_BUS_ID")],
)
def test_gpus_that_cannot_be_distinguished(nvml, visible, order):
  nvml.uuids = ["GPU-aa11", "GPU-bb22", "GPU-bb33"]
  names = {"CUDA_VISIBLE_DEVICES": visible, "CUDA_DEVICE_ORDER": order or ""}
  with pytest.raises(
    ValueError, match="of 3 whole GPUs is JAX's device 0: set"
  ):
    energy.nvml_counter(0, names)


def test_no_nvml(monkeypatch):
  monkeypatch.setitem(sys.modules, "pynvml", None)
  with pytest.raises(ValueError, match=r"install proxyless-jax\[nvml\]"):
    energy.nvml_counter()


def test_a_platform_without_counters():
  with pytest.raises(ValueError, match="energy on 'tpu': expected 'gpu'"):
    energy.energy_counter("tpu")


def test_energy_is_the_mean_of_many_runs():
  now, used = [0.0], [7.0]

  def run():
    now[0] += 0.1
    used[0] += 3.0

  meter = energy.energy_meter(lambda: used[0], 1.0, lambda: now[0])
  assert (meter.unit, meter.samples) == ("mJ", 1)
  assert meter.read(run) == pytest.approx(3.0)
  assert now[0] == pytest.approx(1.0, abs=0.11)
