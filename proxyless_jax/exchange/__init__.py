"""TAKING it elsewhere: PyTorch's state dicts in both directions, ONNX."""

from proxyless_jax.exchange.files import read_torch, write_torch
from proxyless_jax.exchange.torch import from_torch, to_torch
