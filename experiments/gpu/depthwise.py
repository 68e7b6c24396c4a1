"""Part (a): depthwise convolution and its two gradients, by whom fastest?

Each case is a shape, kernel, stride and type; each of its three computations
is done by XLA's native grouped convolution, by sums over taps that XLA fuses,
by a Pallas kernel where there is one, and by PyTorch (cuDNN). A program holds
several independent convolutions, so that starting it counts little.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.gpu import pallas_depthwise
from experiments.gpu.journal import Journal, compile_all, seconds_of, text_of
from proxyless_jax.nn.layers import depthwise as layer

BATCH = 128
# Height and width, channels, stride: hidden maps of the ImageNet space.
SHAPES = [
  (56, 144, 1),
  (28, 240, 1),
  (14, 576, 1),
  (7, 1152, 1),
  (14, 576, 2),
  (112, 96, 2),
  (112, 32, 1),
  (56, 144, 2),
]
SMALL = [(4, 8, 2)]
# Bytes that a program's inputs have together, and how many there are.
MOST_BYTES, MOST_COPIES = 1 << 30, 4
COMPUTATIONS = ("forward", "input gradient", "kernel gradient")


class Case(NamedTuple):
  """One convolution f[batch, size, size, channels]."""

  batch: int
  size: int
  channels: int
  kernel: int
  stride: int
  dtype: str

  @property
  def key(self) -> str:
    shape = f"{self.batch}x{self.size}x{self.size}x{self.channels}"
    return f"{shape} k{self.kernel} s{self.stride} {self.dtype}"

  @property
  def copies(self) -> int:
    """Convolutions in a program."""
    width = jnp.dtype(self.dtype).itemsize
    size = self.batch * self.size**2 * self.channels * width
    return max(1, min(MOST_COPIES, MOST_BYTES // (2 * size)))


def cases(small: bool) -> Iterator[list[Case]]:
  """Cases in groups that are compiled together, the most wanted first."""
  shapes, batch = (SMALL, 2) if small else (SHAPES, BATCH)
  kernels = (3,) if small else (5, 3, 7)
  for part in (shapes[:4], shapes[4:]):
    for k in kernels:
      yield [Case(batch, *shape[:2], k, shape[2], "bfloat16") for shape in part]
  if not small:
    chosen = itertools.product((shapes[1], shapes[2], shapes[4]), kernels)
    yield [Case(batch, *s[:2], k, s[2], "float32") for s, k in chosen]


def taps(x, k: int, out_shape, stride: int) -> Iterator[jax.Array]:
  """What each tap sees, in float32; XLA fuses padding and slices into its use.

  `layer._pad_map` keeps a padded copy instead, which CPUs need.
  """
  (b, rows, cols, c), pad = out_shape, k // 2
  high, wide = stride * (rows - 1) + 1, stride * (cols - 1) + 1
  ends = (high + k - 1 - pad - x.shape[1], wide + k - 1 - pad - x.shape[2])
  padding = ((0, 0, 0), *((pad, end, 0) for end in ends), (0, 0, 0))
  padded = lax.pad(x, jnp.zeros((), x.dtype), padding)
  for i, j in np.ndindex(k, k):
    start, stop = (0, i, j, 0), (b, i + high, j + wide, c)
    seen = lax.slice(padded, start, stop, (1, stride, stride, 1))
    yield seen.astype(jnp.float32)


# The inner jits are for their caches: all copies are traced once.
@functools.partial(jax.jit, static_argnames="stride")
def fused_output(x, kernel, g, stride: int):
  """A product per tap, of which XLA makes one kernel."""
  weights = kernel.reshape(-1, x.shape[-1]).astype(jnp.float32)
  seen = taps(x, kernel.shape[0], g.shape, stride)
  return sum(map(jnp.multiply, seen, weights)).astype(x.dtype)


@functools.partial(jax.jit, static_argnames="stride")
def fused_kernel_gradient(x, kernel, g, stride: int):
  """A reduction per tap, for XLA to fuse: f[k, k, 1, c]."""
  seen, wide = taps(x, kernel.shape[0], g.shape, stride), g.astype(jnp.float32)
  sums = [jnp.sum(one * wide, (0, 1, 2)) for one in seen]
  return jnp.stack(sums).reshape(kernel.shape).astype(x.dtype)


def forms(case: Case, interpret: bool) -> dict:
  """(x, kernel, g) -> a result, by computation and who does it.

  At stride 1 the input's gradient is a convolution too, by the kernel turned
  around: 'native turned' and others.
  """
  stride = case.stride
  bound = functools.partial
  pallas = bound(pallas_depthwise.kernel_gradient, k=case.kernel, stride=stride)
  of_output = {
    "native": lambda x, kernel, g: layer.native(x, kernel, stride),
    "taps": lambda x, kernel, g: layer._output_by_taps(x, kernel, stride),
    "fused": bound(fused_output, stride=stride),
    "pallas": lambda x, kernel, g: pallas_depthwise.output(
      x, kernel, stride, interpret=interpret
    ),
  }
  of_input = {
    "native": bound(layer.native_input_gradient, stride=stride),
    "taps": bound(layer._input_gradient_by_taps, stride=stride),
  }
  if stride == 1:
    for who in ("native", "fused", "pallas"):
      of_input[f"{who} turned"] = bound(_turned, of_output[who])
  of_kernel = {
    "native": bound(layer.native_kernel_gradient, stride=stride),
    "fused": bound(fused_kernel_gradient, stride=stride),
    "pallas": lambda x, kernel, g: pallas(x, g, interpret=interpret),
  }
  return dict(zip(COMPUTATIONS, (of_output, of_input, of_kernel)))


def _turned(form, x, kernel, g):
  return form(g, kernel[::-1, ::-1], x)


def inputs(case: Case) -> list[tuple]:
  """(x, kernel, g) for each copy, made on the device."""
  rows = -(-case.size // case.stride)
  k, c = case.kernel, case.channels
  shapes = (
    (case.batch, case.size, case.size, c),
    (k, k, 1, c),
    (case.batch, rows, rows, c),
  )

  @jax.jit
  def make(key):
    keys = jax.random.split(key, len(shapes))
    draws = (jax.random.normal(*pair) for pair in zip(keys, shapes))
    return tuple(draw.astype(case.dtype) for draw in draws)

  return [make(key) for key in jax.random.split(jax.random.key(0), case.copies)]


def lower(case: Case, interpret: bool, only: tuple[str, ...]) -> dict:
  """Programs of all copies, by (case, computation, who does it)."""
  like = jax.eval_shape(lambda: inputs(case))
  lowered = {}
  for what, ways in forms(case, interpret).items():
    for who, form in ways.items():
      if who.split()[0] not in only:
        continue
      run = functools.partial(_all_copies, form)
      try:
        lowered[case.key, what, who] = jax.jit(run).lower(like)
      except Exception as error:  # The others continue.
        lowered[case.key, what, who] = _Failed(error)
  return lowered


class _Failed:
  """What could not be lowered fails to compile, with the same words."""

  def __init__(self, error: Exception):
    self._error = error

  def compile(self):
    raise self._error


def _all_copies(form, copies):
  return [form(*copy) for copy in copies]


def measure(case: Case, programs: dict, journal: Journal) -> None:
  """One row for each computation of a case."""
  copies = inputs(case)
  for what in COMPUTATIONS:
    row, want = {"copies": case.copies}, None
    for (key, computation, who), (program, _) in programs.items():
      if (key, computation) != (case.key, what):
        continue
      if isinstance(program, str):
        row[f"{who}_failed"] = program
        continue
      try:
        got = program(copies)[0]
        want = got if who == "native" else want
        if want is not None:
          row[f"{who}_error"] = float(_distance(got, want))
        run = functools.partial(program, copies)
        spent = seconds_of(run, jax.block_until_ready)
        row[f"{who}_us"] = 1e6 * spent / case.copies
      except Exception as error:  # The others continue.
        row[f"{who}_failed"] = text_of(error)
    journal.add(f"{case.key} {what}", row)


@jax.jit
def _distance(got, want):
  """Of two results, over the largest number in them."""
  got, want = got.astype(jnp.float32), want.astype(jnp.float32)
  return jnp.max(jnp.abs(got - want)) / (jnp.max(jnp.abs(want)) + 1e-30)


def run(journal: Journal, small: bool, *only: str) -> None:
  """JAX's side, by some of the ways: the native one is what all are held to.

  Pallas is for a process of its own: what its compiler cannot do may end it.
  """
  for group in cases(small):
    todo = [c for c in group if f"{c.key} {COMPUTATIONS[-1]}" not in journal]
    if not todo:
      continue
    lowered = {}
    for case in todo:
      lowered |= lower(case, small, only)
    programs = compile_all(lowered, journal)
    for case in todo:
      if journal.left <= 0:
        journal.log("the budget ended")
        return
      measure(case, programs, journal)


def run_torch(journal: Journal, small: bool) -> None:
  """PyTorch's side: cuDNN, channels_last."""
  import torch

  device = "cuda" if torch.cuda.is_available() else "cpu"
  torch.backends.cudnn.benchmark = True
  for case in itertools.chain(*cases(small)):
    if case.key in journal:
      continue
    if journal.left <= 0:
      journal.log("the budget ended")
      return
    row = {}
    for what, form in torch_forms(case, device).items():
      try:
        spent = seconds_of(form, lambda _: _synchronise(torch, device))
        row[f"{what}_us"] = 1e6 * spent / case.copies
      except Exception as error:  # The others continue.
        row[f"{what}_failed"] = text_of(error)
    journal.add(case.key, row)


def torch_forms(case: Case, device: str) -> dict:
  """The three computations of all copies, by PyTorch."""
  import torch

  dtype, c, k = getattr(torch, case.dtype), case.channels, case.kernel
  rows = -(-case.size // case.stride)

  def maps(size):
    shape = (case.batch, c, size, size)
    made = torch.randn(shape, device=device, dtype=dtype)
    return made.contiguous(memory_format=torch.channels_last)

  copies = [
    (maps(case.size), torch.randn((c, 1, k, k), device=device, dtype=dtype))
    for _ in range(case.copies)
  ]
  gradients = [maps(rows) for _ in copies]
  sizes = [case.stride] * 2, [k // 2] * 2

  def forward():
    for x, kernel in copies:
      torch.conv2d(x, kernel, None, *sizes, 1, c)

  def backward(mask):
    for (x, kernel), g in zip(copies, gradients):
      torch.ops.aten.convolution_backward(
        g, x, kernel, None, *sizes, [1, 1], False, [0, 0], c, mask
      )

  gradient_of = functools.partial
  return {
    "forward": forward,
    "input gradient": gradient_of(backward, [True, False, False]),
    "kernel gradient": gradient_of(backward, [False, True, False]),
  }


def _synchronise(torch, device: str) -> None:
  if device == "cuda":
    torch.cuda.synchronize()
