"""ONNX: int8 weights and activations, by ONNX Runtime's own quantiser.

Ranges of activations are the least and greatest values over some images, and
weights have a scale for each output channel.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from proxyless_jax.exchange.onnx import INPUT


def to_int8(model: Any, batches: Iterable[np.ndarray]) -> bytes:
  """A model in int8 (QDQ form), as the contents of an .onnx file.

  Args:
    model: `onnx.ModelProto` that `to_onnx` gives, for any number of images.
    batches: images as the model reads them, to find the ranges of activations.

  Raises:
    ImportError: the extra `onnx` is not installed.
  """
  quantization = import_quantization()
  with tempfile.TemporaryDirectory() as folder:
    prepared, path = (os.path.join(folder, n) for n in ("in.onnx", "int8.onnx"))
    # Its other way of finding shapes is for transformers.
    quantization.quant_pre_process(model, prepared, skip_symbolic_shape=True)
    quantization.quantize_static(
      prepared,
      path,
      _Batches(iter(batches)),
      nodes_to_exclude=_normalisation(model),
      per_channel=True,
    )
    with open(path, "rb") as file:
      return file.read()


def _normalisation(model: Any) -> list[str]:
  """The nodes that normalise pixels, which would be rounded three times."""
  nodes = itertools.takewhile(
    lambda node: node.op_type != "Transpose", model.graph.node
  )
  return [node.name for node in nodes]


def import_quantization() -> Any:
  """The package `onnxruntime.quantization`; an ImportError names the extra."""
  try:
    from onnxruntime import quantization
  except ImportError as error:
    raise ImportError(
      "int8 needs the packages onnx and onnxruntime: install "
      "proxyless-jax[onnx]"
    ) from error
  return quantization


class _Batches:
  """Batches as ONNX Runtime's quantiser asks for them."""

  def __init__(self, batches: Iterator[np.ndarray]) -> None:
    self._batches = batches

  def get_next(self) -> dict[str, np.ndarray] | None:
    images = next(self._batches, None)
    return None if images is None else {INPUT: images}
