"""The Pallas kernels, interpreted on CPU, and lowered for a GPU without one."""

import functools

import jax
import numpy as np
import pytest

from experiments.gpu import pallas_depthwise
from proxyless_jax.nn.layers import depthwise

CASES = [  # height, width, channels, kernel, stride
  (5, 6, 72, 3, 1),
  (6, 5, 3, 5, 2),
]


def arrays(h, w, c, k, stride):
  rng = np.random.default_rng(0)
  out = 2, -(-h // stride), -(-w // stride), c
  shapes = (2, h, w, c), (k, k, 1, c), out
  return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("h, w, c, k, stride", CASES)
def test_they_give_what_xla_gives(h, w, c, k, stride):
  x, kernel, g = arrays(h, w, c, k, stride)
  native = functools.partial(depthwise.native, stride=stride)
  want, pull = jax.vjp(native, x, kernel)
  got = pallas_depthwise.output(x, kernel, stride, interpret=True)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
  got = pallas_depthwise.kernel_gradient(x, g, k, stride, interpret=True)
  np.testing.assert_allclose(got, pull(g)[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("k", (3, 5, 7))
def test_they_lower_for_a_gpu(k):
  x, kernel, g = arrays(14, 14, 72, k, 2)
  device = jax.sharding.AbstractDevice(
    device_kind="NVIDIA H100 80GB HBM3", num_cores=None, platform="gpu"
  )
  mesh = jax.sharding.AbstractMesh((), (), abstract_device=device)
  with jax.sharding.use_abstract_mesh(mesh):
    for run, args in (
      (lambda x, kernel: pallas_depthwise.output(x, kernel, 2), (x, kernel)),
      (lambda x, g: pallas_depthwise.kernel_gradient(x, g, k, 2), (x, g)),
    ):
      traced = jax.jit(run).trace(*args)
      text = traced.lower(lowering_platforms=("cuda",)).as_text()
      assert "triton" in text
