"""Energy of a run, from the counters of a machine.

Counters move in steps of 1 to 100 ms, so a sample is many runs in a row:

    energy of a run = (counter after - counter before) / runs

It is the energy of the whole chip in that time, its idle power and everything
else that runs on it included.
"""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from proxyless_jax.hardware.runtime import Meter, Run

POWERCAP = "/sys/class/powercap"
ZONES = ("package", "dram")
OTHERWISE = (
  "where a machine has no counter, give a table of your own: a JSON or CSV "
  "file as the kind of a cost (see proxyless_jax.hardware.files)"
)
# Millijoules since some fixed moment.
Counter = Callable[[], float]


def energy_counter(platform: str) -> Counter:
  """The energy counter of the device that computes.

  Args:
    platform: JAX's name of it: 'gpu' has NVML's counter, 'cpu' has RAPL's.

  Raises:
    ValueError: there is no counter that can be read; says where one was looked
      for.
  """
  if platform == "gpu":
    device = jax.local_devices()[0]
    return nvml_counter(getattr(device, "local_hardware_id", 0) or 0)
  if platform == "cpu":
    return rapl_counter()
  raise ValueError(
    f"energy on {platform!r}: expected 'gpu', which NVIDIA's NVML counts, or "
    f"'cpu', which RAPL counts; {OTHERWISE}"
  )


def nvml_counter(
  ordinal: int = 0, environment: Mapping[str, str] = os.environ
) -> Counter:
  """The energy counter of an NVIDIA GPU, Volta or newer, in millijoules.

  Args:
    ordinal: number of the GPU among those that CUDA shows to this process.
    environment: environment variables, of which CUDA_VISIBLE_DEVICES and
      CUDA_DEVICE_ORDER are read.

  Raises:
    ValueError: no NVML, a GPU without the counter, or several GPUs and no way
      to tell which one computes.
  """
  try:
    import pynvml
  except ImportError as error:
    raise ValueError(
      "energy on 'gpu': NVML is read by the package nvidia-ml-py: install "
      f"proxyless-jax[nvml]; {OTHERWISE}"
    ) from error
  try:
    pynvml.nvmlInit()
    handle = _gpu(pynvml, ordinal, environment)
    pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
  except pynvml.NVMLError as error:
    raise ValueError(
      f"energy on 'gpu': NVML has no energy counter for GPU {ordinal} "
      f"({error}), and RAPL counts the CPU alone; {OTHERWISE}"
    ) from error
  return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))


def _gpu(pynvml: Any, ordinal: int, environment: Mapping[str, str]) -> Any:
  """NVML's handle of CUDA's device: NVML lists hidden devices too."""
  count = pynvml.nvmlDeviceGetCount()
  gpus = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)]
  text = environment.get("CUDA_VISIBLE_DEVICES")
  shown = [entry.strip() for entry in text.split(",")] if text else range(count)
  entry = str(shown[ordinal]) if ordinal < len(shown) else ""
  found = []
  if entry.startswith("GPU-"):  # The beginning of a UUID is enough for CUDA.
    found = [gpu for gpu in gpus if _uuid(pynvml, gpu).startswith(entry)]
  elif entry.isdecimal() and int(entry) < count:
    in_order = environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    found = [gpus[int(entry)]] if in_order or count == 1 else []
  if len(found) != 1:
    raise ValueError(
      f"energy on 'gpu': CUDA_VISIBLE_DEVICES = {text!r} does not tell which "
      f"of {count} whole GPUs is JAX's device {ordinal}: set it to the UUID "
      "that `nvidia-smi -L` shows, or set CUDA_DEVICE_ORDER to PCI_BUS_ID, "
      f"which is NVML's order; {OTHERWISE}"
    )
  return found[0]


def _uuid(pynvml: Any, gpu: Any) -> str:
  uuid = pynvml.nvmlDeviceGetUUID(gpu)
  # Old versions of the package give bytes.
  return uuid.decode() if isinstance(uuid, bytes) else uuid


def rapl_counter(folder: str = POWERCAP) -> Counter:
  """The energy counter of the CPU's packages and memory, in millijoules.

  Args:
    folder: folder of Linux's powercap zones.

  Raises:
    ValueError: there is no zone, or none that may be read.
  """
  zones = [zone for zone in sorted(_zones(folder)) if _counts(zone)]
  if not zones:
    raise ValueError(
      f"energy on 'cpu': expected RAPL's counters {folder}/intel-rapl:*/"
      "energy_uj, found none (virtual machines have none, nor have other "
      f"systems than Linux), and NVML counts GPUs alone; {OTHERWISE}"
    )
  try:
    return _Rapl(zones).read
  except PermissionError as error:
    raise ValueError(
      f"energy on 'cpu': {error.filename} may not be read: let this user read "
      f"energy_uj of the zones in {folder}, as root; {OTHERWISE}"
    ) from error


def _zones(folder: str) -> list[str]:
  return glob.glob(os.path.join(glob.escape(folder), "intel-rapl:*"))


def _counts(zone: str) -> bool:
  """Whether a zone counts a part that no other zone counts."""
  if not os.path.exists(os.path.join(zone, "energy_uj")):
    return False
  # Cores and graphics are parts of their package, the platform has them all.
  with open(os.path.join(zone, "name"), encoding="utf-8") as file:
    return file.read().startswith(ZONES)


class _Rapl:
  """The sum of counters that restart from 0 after their largest value."""

  def __init__(self, zones: list[str]) -> None:
    self._files = [os.path.join(zone, "energy_uj") for zone in zones]
    ranges = [os.path.join(zone, "max_energy_range_uj") for zone in zones]
    self._ranges = [_microjoules(path) for path in ranges]
    self._last = [_microjoules(path) for path in self._files]
    self._sum = 0

  def read(self) -> float:
    """Millijoules since the counter was made.

    To be called at least once in the time in which a counter restarts, which is
    minutes at full load.
    """
    now = [_microjoules(path) for path in self._files]
    for new, old, range_ in zip(now, self._last, self._ranges):
      self._sum += new - old + (range_ if new < old else 0)
    self._last = now
    return self._sum / 1e3


def _microjoules(path: str) -> int:
  with open(path, encoding="ascii") as file:
    return int(file.read())


def energy_meter(
  counter: Counter,
  seconds: float = 0.5,
  clock: Callable[[], float] = time.perf_counter,
) -> Meter:
  """A meter of the energy of a run, the mean over a sample.

  Args:
    counter: counter of millijoules.
    seconds: duration of a sample: several steps of the counter.
    clock: function that returns the time in seconds.
  """

  def read(run: Run) -> float:
    runs, start, before = 0, clock(), counter()
    while not runs or clock() - start < seconds:
      run()
      runs += 1
    return (counter() - before) / runs

  return Meter("mJ", read, 1)
