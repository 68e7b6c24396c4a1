"""LiteRT (TensorFlow Lite): a network for phones, by Google's converter.

The converter reads StableHLO, folds batch norms, and needs no TensorFlow. The
batch is fixed: with one of any size it leaves shapes to be computed in each
call, and folds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxyless_jax.exchange.normalisation import Normalisation
from proxyless_jax.exchange.stablehlo import to_stablehlo
from proxyless_jax.space import Network

INPUT, OUTPUT = "images", "logits"
# Where convolutions are convolutions: on CPUs ours are sums of products.
PLATFORM = "cuda"


def to_litert(
  network: Network,
  variables: Mapping[str, Any],
  *,
  batch: int = 1,
  normalisation: Normalisation | None = None,
) -> bytes:
  """An architecture with its weights as the contents of a .tflite file.

  Its signature 'serving_default' reads 'images' f32[batch, h, w, c], or uint8
  where it normalises them itself, and gives 'logits' f32[batch, classes].

  Args:
    network: an architecture.
    variables: {'params', 'batch_stats'} of the network's module.
    batch: number of images at once.
    normalisation: normalisation to begin with; None for normalised images.

  Raises:
    ImportError: the extra `litert` is not installed.
  """
  converter, ir, passmanager = _import_converter()
  exported = to_stablehlo(
    network,
    variables,
    batch=batch,
    normalisation=normalisation,
    platforms=(PLATFORM,),
  )
  context = ir.Context()
  converter.prepare_mlir_context(context)
  with context:
    module = ir.Module.parse(exported.mlir_module())
    names = "serving_default", [INPUT], [OUTPUT]
    converter.set_signature(module.operation, *names)
    passes = passmanager.PassManager()
    options = converter.ConvertToTFLConfig()
    converter.run_convert_to_tfl_passes(module, passes, options)
    return converter.export_flatbuffer_to_bytes(module.operation)


def _import_converter() -> tuple[Any, Any, Any]:
  try:
    from litert_converter import converter_api_ext
    from litert_converter.mlir import ir, passmanager
  except ImportError as error:
    raise ImportError(
      ".tflite files need the package litert-converter: install "
      "proxyless-jax[litert]"
    ) from error
  return converter_api_ext, ir, passmanager
