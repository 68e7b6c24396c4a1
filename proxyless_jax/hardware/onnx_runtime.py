"""ONNX Runtime on the CPU: the cost of a network in deployment."""

from __future__ import annotations

import jax

from proxyless_jax.exchange.onnx import INPUT, to_onnx
from proxyless_jax.hardware.runtime import (
  STOPWATCH,
  Meter,
  Run,
  Runtime,
  check_batch,
  cpu_name,
  metered,
  random_images,
)
from proxyless_jax.nn import build, init
from proxyless_jax.space import Network


def onnx(
  batch: int = 1, meter: Meter = STOPWATCH, threads: int | None = None
) -> Runtime:
  """ONNX Runtime on the CPU, float32.

  Args:
    batch: number of images at once; costs are of the whole batch.
    meter: meter of runs, by default of latency.
    threads: number of threads; None for one per core.

  Raises:
    ImportError: the extra `onnx` is not installed.
    ValueError: no such batch or number of threads.
  """
  check_batch(batch)
  if threads is not None and threads < 1:
    raise ValueError(
      f"threads = {threads}: expected 1 or more, or None for one per core"
    )
  try:
    import onnxruntime
  except ImportError as error:
    raise ImportError(
      "the runtime 'onnx' needs onnxruntime: install proxyless-jax[onnx]"
    ) from error

  def prepare(network: Network) -> Run:
    variables = init(build(network), jax.random.key(0))
    model = to_onnx(network, variables, batch=batch).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0  # 0: one per core.
    # Spinning threads would take the cores of the network measured next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
      model, options, providers=["CPUExecutionProvider"]
    )
    images = {INPUT: random_images(network, batch)}
    return lambda: session.run(None, images)

  version = onnxruntime.__version__
  name = f"ONNX Runtime {version}, {cpu_name()}, float32, batch {batch}"
  setting = {"batch": batch, "dtype": "float32", "onnxruntime": version}
  if threads is not None:
    name += f", {threads} thread{'s' if threads > 1 else ''}"
    setting["threads"] = threads
  return metered(name, prepare, meter, setting)
