"""Runtimes: they run networks, and report the cost of a run.

A runtime is a name, a unit, and one function: network -> sample, where a call
of `sample()` runs the network once and returns the cost of that run. Blocks are
networks too, of one edge. A phone or a board of your own is

    runtime = from_function("my phone", lambda network: milliseconds(network))

or, where everything has been measured already, a CSV
(`proxyless_jax.hardware.files`).
"""

from __future__ import annotations

import dataclasses
import os
import platform
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from proxyless_jax.nn import build, init
from proxyless_jax.space import Network

# Runs a program once and waits for its end.
Run = Callable[[], object]
DTYPES = ("float32", "bfloat16")
CPUINFO = "/proc/cpuinfo"


@dataclasses.dataclass(frozen=True)
class Runtime:
  """Runs networks and reports their costs.

  Attributes:
    name: name of the device and the software, which a table keeps.
    unit: unit of the costs, such as 'ms'.
    prepare: function of a network that returns a function which runs the
      network once and returns the cost.
    samples: number of samples at each visit of a network. The first one warms
      up, the least of the others counts; a single one counts itself.
    settled: whether costs are final: one sample of each network, without a
      reference.
    setting: everything else that the costs depend on, such as versions, by
      name, as JSON can store it. Readings of different settings do not mix.
  """

  name: str
  unit: str
  prepare: Callable[[Network], Callable[[], float]]
  samples: int = 4
  settled: bool = False
  setting: Mapping[str, object] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Meter:
  """Measures a run.

  Attributes:
    unit: unit of the cost.
    read: function of a run that returns the cost of one.
    samples: see `Runtime`.
  """

  unit: str
  read: Callable[[Run], float]
  samples: int


def from_function(
  name: str, cost: Callable[[Network], float], unit: str = "ms"
) -> Runtime:
  """A runtime of your own, such as a phone.

  Args:
    name: name of the device.
    cost: function of a network that returns its cost; called once for each
      network and each block, which is a chain of one edge.
    unit: unit of `cost`.
  """
  return Runtime(name, unit, lambda network: lambda: cost(network), 1, True)


def _milliseconds(run: Run) -> float:
  start = time.perf_counter()
  run()
  return 1e3 * (time.perf_counter() - start)


STOPWATCH = Meter("ms", _milliseconds, 4)


def metered(
  name: str,
  prepare: Callable[[Network], Run],
  meter: Meter,
  setting: Mapping[str, object],
) -> Runtime:
  """A runtime from a function that prepares runs, and a meter of runs.

  Args:
    name: name of the runtime.
    prepare: function from a network to a run of it.
    meter: meter of a run's cost.
    setting: what the costs depend on besides the network, by name.
  """

  def prepare_sample(network: Network) -> Callable[[], float]:
    run = prepare(network)
    run()  # The set-up at the first run is no part of a sample.
    return lambda: meter.read(run)

  return Runtime(
    name, meter.unit, prepare_sample, meter.samples, setting=setting
  )


def xla(
  batch: int = 1, dtype: str = "float32", meter: Meter = STOPWATCH
) -> Runtime:
  """XLA on JAX's default device: one compiled program per network.

  Args:
    batch: number of images at once; costs are of the whole batch.
    dtype: type of activations, 'float32' or 'bfloat16'.
    meter: meter of runs, by default of latency.

  Raises:
    ValueError: no such batch or dtype.
  """
  check_batch(batch)
  if dtype not in DTYPES:
    raise ValueError(f"dtype = {dtype!r}: expected one of {DTYPES}")

  def prepare(network: Network) -> Run:
    module = build(network, dtype=jnp.dtype(dtype))
    variables = init(module, jax.random.key(0))
    images = jnp.asarray(random_images(network, batch))
    apply = jax.jit(lambda variables, x: module.apply(variables, x, False))
    program = apply.lower(variables, images).compile()
    return lambda: jax.block_until_ready(program(variables, images))

  setting = {"batch": batch, "dtype": dtype, "jax": jax.__version__}
  setting |= {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "")}
  return metered(_xla_name(batch, dtype), prepare, meter, setting)


def _xla_name(batch: int, dtype: str) -> str:
  """A name with the device: tables of different devices differ in it."""
  device = jax.devices()[0]
  kind = device.device_kind
  if device.platform == "cpu":
    kind = cpu_name()
  return f"XLA, {kind}, {dtype}, batch {batch}"


def cpu_name() -> str:
  """Name of the processor, with the cores that this process may use."""
  if hasattr(os, "sched_getaffinity"):  # Not on macOS and Windows.
    cores = len(os.sched_getaffinity(0))
  else:
    cores = os.cpu_count() or 1  # None where it is unknown.
  return f"{_model(CPUINFO)}, {cores} cores"


def _model(cpuinfo: str) -> str:
  """Name of the processor; some architectures have none in the file."""
  names = []
  if os.path.exists(cpuinfo):
    with open(cpuinfo, encoding="utf-8") as file:
      names = [line for line in file if line.startswith("model name")]
  name = names[0].partition(":")[2].strip() if names else platform.processor()
  return name or platform.machine() or "CPU"


def check_batch(batch: int) -> None:
  """Raises a ValueError for fewer than one image at once."""
  if batch < 1:
    raise ValueError(f"batch = {batch}: expected a positive number of images")


def random_images(network: Network, batch: int) -> np.ndarray:
  """Images f32[batch, h, w, c] of the shape that a network reads."""
  rng = np.random.default_rng(0)
  return rng.standard_normal((batch, *network.image_shape), np.float32)
