"""Kernels for CPUs in C++, compiled when they are first used.

XLA:CPU has no fast depthwise convolution (`experiments/depthwise.py`), and
makes more passes over a map than batch norm needs
(`experiments/batch_norm.py`). Layers call these kernels in training, on
float32. In inference they run XLA's own operations, so that a program that is
exported or measured contains nothing of this package.
"""

from proxyless_jax.nn.cpu_kernels.build import available, enabled
from proxyless_jax.nn.cpu_kernels.calls import (
  batch_means,
  depthwise,
  depthwise_input_gradient,
  depthwise_kernel_gradient,
  norm_depthwise,
  norm_depthwise_kernel_gradient,
  norm_gradient_sums,
  norm_input_gradient,
  normalise,
  on_cpu,
  usable,
)
