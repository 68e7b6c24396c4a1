"""Exported files, run by the runtimes that they are for, on the CPU.

Each function takes the contents of a file and gives a function from images to
logits. An ImportError names the extra that the runtime comes with.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable

import jax
import numpy as np

from proxyless_jax.exchange.files import read_torch
from proxyless_jax.exchange.normalisation import as_function
from proxyless_jax.exchange.safetensors import from_safetensors
from proxyless_jax.exchange.torch import from_torch
from proxyless_jax.space import Network

# From images, uint8 or f32[b, h, w, c], to logits, f32[b, classes].
Logits = Callable[[np.ndarray], np.ndarray]


def logits_of(network: Network, variables: dict) -> Logits:
  """The network itself, by XLA on the CPU: what the others are compared with.

  Args:
    network: an architecture.
    variables: {'params', 'batch_stats'} of its module.
  """
  return _on_cpu(jax.jit(as_function(network, variables)))


def run_onnx(data: bytes, network: Network) -> Logits:
  """An .onnx file by ONNX Runtime."""
  del network
  try:
    import onnxruntime
  except ImportError as error:
    raise ImportError("install proxyless-jax[onnx]") from error
  session = onnxruntime.InferenceSession(
    data, providers=["CPUExecutionProvider"]
  )
  (name,) = (one.name for one in session.get_inputs())
  return lambda images: session.run(None, {name: images})[0]


def run_stablehlo(data: bytes, network: Network) -> Logits:
  """A .stablehlo file by JAX."""
  del network
  exported = jax.export.deserialize(bytearray(data))
  return _on_cpu(jax.jit(exported.call))


def run_litert(data: bytes, network: Network) -> Logits:
  """A .tflite file by LiteRT, image by image."""
  del network
  try:
    from ai_edge_litert.interpreter import Interpreter
  except ImportError as error:
    raise ImportError("install proxyless-jax[litert]") from error
  interpreter = Interpreter(model_content=data, num_threads=os.cpu_count())
  run = interpreter.get_signature_runner()
  (name,) = run.get_input_details()

  def logits(images: np.ndarray) -> np.ndarray:
    (output,) = zip(*(run(**{name: i[None]}).values() for i in images))
    return np.concatenate(output)

  return logits


def run_safetensors(data: bytes, network: Network) -> Logits:
  """The weights in a .safetensors file, loaded again, by XLA."""
  return logits_of(network, from_safetensors(data).variables)


def run_torch(data: bytes, network: Network) -> Logits:
  """The weights in a .pth file, loaded again by PyTorch, by XLA."""
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "weights.pth")
    with open(path, "wb") as file:
      file.write(data)
    state_dict = read_torch(path)
  return logits_of(network, from_torch(network, state_dict))


def _on_cpu(compute: Callable[[jax.Array], jax.Array]) -> Logits:
  try:
    device = jax.local_devices(backend="cpu")[0]
  except RuntimeError as error:
    raise ValueError(
      "exported files are compared with the network on the CPU, which "
      "JAX_PLATFORMS leaves out: add cpu to it, or unset it"
    ) from error

  def logits(images: np.ndarray) -> np.ndarray:
    with jax.default_device(device):
      return np.asarray(compute(jax.device_put(images, device)))

  return logits
