"""The section `measure` of a config."""

from __future__ import annotations

import dataclasses

from proxyless_jax.run.config import fields

RUNTIMES = ("xla", "onnx")
QUANTITIES = ("latency", "energy")
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasureOptions:
  """A measured table of costs.

  Attributes:
    runtime: 'xla' on the device at hand, or 'onnx' for ONNX Runtime on its CPU.
    quantity: 'latency' in ms, or 'energy' in mJ; of a whole batch.
    batch: images at once.
    dtype: of activations, 'float32' or, by XLA, 'bfloat16'.
    classes: of the networks; 0 for those of the data, which are then read.
    calibration: whole networks that the table is fitted to.
    held_out: others that it is checked on.
    tolerance: relative standard error of a reading that is enough.
    max_rounds: of visits to a network; after these its reading is taken as it
      is.
  """

  runtime: str
  quantity: str
  batch: int
  dtype: str
  classes: int
  calibration: int
  held_out: int
  tolerance: float
  max_rounds: int

  def __post_init__(self):
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
