"""The section `export` of a config."""

from __future__ import annotations

import dataclasses

from proxyless_jax.exchange.formats import check_export


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportOptions:
  """The export of the network of a run that has ended.

  Attributes:
    path: path of the file to write; a relative one is in the workdir. Its
      ending is the format: .onnx, .stablehlo, .tflite, .safetensors or .pth.
    preprocess: whether the file reads pixels uint8[b, h, w, c] of the network's
      image size and normalises them as the run did; else it reads normalised
      images f32[b, h, w, c].
    quantize: whether an .onnx file computes in int8.
  """

  path: str = "network.onnx"
  preprocess: bool = False
  quantize: bool = False

  def __post_init__(self) -> None:
    check_export(
      "path",
      self.path,
      preprocess=self.preprocess,
      quantize=self.quantize,
    )
