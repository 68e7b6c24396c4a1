"""The formats of exported files, by the ending of their names."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from proxyless_jax.exchange.files import write_torch
from proxyless_jax.exchange.litert import to_litert
from proxyless_jax.exchange.normalisation import Normalisation
from proxyless_jax.exchange.onnx import to_onnx
from proxyless_jax.exchange.runtimes import (
  Logits,
  run_litert,
  run_onnx,
  run_safetensors,
  run_stablehlo,
  run_torch,
)
from proxyless_jax.exchange.safetensors import to_safetensors
from proxyless_jax.exchange.stablehlo import to_stablehlo
from proxyless_jax.exchange.torch import to_torch
from proxyless_jax.space import Network
from proxyless_jax.space.checks import expect


@dataclasses.dataclass(frozen=True)
class Format:
  """A format of files.

  Attributes:
    write: function from a network, its variables, a normalisation or None, and
      texts about them, to the contents of a file.
    read: function from those contents and the network to one that computes
      logits by the format's own runtime.
    runtime: name of the runtime.
    package: distribution that the runtime comes with.
    computes: whether the file has the computation, and not weights alone.
  """

  write: Callable[
    [Network, Mapping[str, Any], Normalisation | None, Mapping[str, str]], bytes
  ]
  read: Callable[[bytes, Network], Logits]
  runtime: str
  package: str
  computes: bool = True


def _onnx(network, variables, normalisation, texts) -> bytes:
  del texts
  options = dict(batch=None, normalisation=normalisation)
  return to_onnx(network, variables, **options).SerializeToString()


def _stablehlo(network, variables, normalisation, texts) -> bytes:
  del texts
  exported = to_stablehlo(network, variables, normalisation=normalisation)
  return bytes(exported.serialize())


def _litert(network, variables, normalisation, texts) -> bytes:
  del texts
  return to_litert(network, variables, normalisation=normalisation)


def _safetensors(network, variables, normalisation, texts) -> bytes:
  del normalisation
  return to_safetensors(network, variables, texts)


def _torch(network, variables, normalisation, texts) -> bytes:
  del normalisation, texts
  state_dict = to_torch(network, variables)
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "weights.pth")
    write_torch(path, state_dict)
    with open(path, "rb") as file:
      return file.read()


FORMATS = {
  ".onnx": Format(_onnx, run_onnx, "ONNX Runtime", "onnxruntime"),
  ".stablehlo": Format(_stablehlo, run_stablehlo, "JAX", "jax"),
  ".tflite": Format(_litert, run_litert, "LiteRT", "ai-edge-litert"),
  ".safetensors": Format(
    _safetensors, run_safetensors, "safetensors", "safetensors", False
  ),
  ".pth": Format(_torch, run_torch, "PyTorch", "torch", False),
}


def check_export(
  field: str, path: str | os.PathLike, *, preprocess: bool, quantize: bool
) -> str:
  """The ending of an exported file, which it must have with these options.

  Args:
    field: name of the path in errors.
    path: path of the file.
    preprocess: whether the file is to read pixels.
    quantize: whether the file is to compute in int8.

  Raises:
    ValueError: a path of no known format, or an option that it has not.
  """
  text = isinstance(path, str | os.PathLike)
  expect(text, field, path, "the path of a file, such as 'network.onnx'")
  ending = os.path.splitext(os.fspath(path))[1]
  known = ", ".join(FORMATS)
  expect(ending in FORMATS, field, path, f"a name that ends in one of {known}")
  if quantize and ending != ".onnx":
    raise ValueError(
      f"quantize = True with {field} = {os.fspath(path)!r}: expected a name "
      "that ends in .onnx, since ONNX Runtime quantises: name such a file, or "
      "leave quantize out"
    )
  if preprocess and not FORMATS[ending].computes:
    raise ValueError(
      f"preprocess = True with {field} = {os.fspath(path)!r}: expected a file "
      "that computes, not weights alone: name one that ends in .onnx, "
      ".stablehlo or .tflite, or leave preprocess out"
    )
  return ending
