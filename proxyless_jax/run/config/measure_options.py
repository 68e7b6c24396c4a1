"""The section `measure` of a config."""

from __future__ import annotations

import dataclasses

from proxyless_jax.run.config import fields

RUNTIMES = ("xla", "onnx")
QUANTITIES = ("latency", "energy")
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasureOptions:
  """The measurement of a table of costs.

  Attributes:
    runtime: 'xla' for the device at hand, or 'onnx' for ONNX Runtime on its
      CPU.
    quantity: 'latency' in ms, or 'energy' in mJ, both for a whole batch.
    batch: images per forward pass.
    dtype: type of activations, 'float32' or, by XLA, 'bfloat16'.
    classes: number of classes of the networks, so that no data are read; 0 for
      the classes of the data, which are then read.
    calibration: number of networks that the table is fitted to.
    held_out: number of other networks that the table is checked on.
    tolerance: relative standard error at which a network's reading is good
      enough.
    max_rounds: most measurements of a network; its reading is then taken
      whatever its error.
  """

  runtime: str = "xla"
  quantity: str = "latency"
  batch: int = 1
  dtype: str = "float32"
  classes: int = 1000
  calibration: int = 60
  held_out: int = 30
  tolerance: float = 0.004
  max_rounds: int = 100

  def __post_init__(self) -> None:
    fields.one_of("measure.runtime", self.runtime, RUNTIMES)
    fields.one_of("measure.quantity", self.quantity, QUANTITIES)
    dtypes = DTYPES[:1] if self.runtime == "onnx" else DTYPES
    fields.one_of("measure.dtype", self.dtype, dtypes)
    fields.not_negative("measure.classes", self.classes)
    for field in ("batch", "tolerance", "max_rounds"):
      fields.positive(f"measure.{field}", getattr(self, field))
    for field, least in (("calibration", 4), ("held_out", 2)):
      if getattr(self, field) < least:
        raise ValueError(
          f"measure.{field} = {getattr(self, field)}: expected {least} or more "
          "networks"
        )
