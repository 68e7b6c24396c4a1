"""FLOPs and bytes of memory traffic of a search's steps, an image.

A supernet's program holds every candidate, so its own count says nothing of a
step. These are put together from programs without choices, averaged over a
uniform draw:

    weight step       training step of the path's plain network
                      + forward pass of its searched edges, run again, without
                      their projections, whose results are saved
    arch step, full   its forward and backward pass without weight gradients
                      + forward pass of every candidate, once, but for the
                      projection of the drawn one, and all of it on the first
                      edge, of whose input no gradient is asked for
    arch step, two    the same, of two candidates an edge

FLOPs are those of the program that accelerators get, before XLA's
optimisations: with its convolutions whole. Bytes are those of the program
compiled for CPU, float32: each instruction, fused ones as one, reads its
operands once and writes its result once, and a loop reads its arrays once.
(XLA's own count is of no use here: it adds up the k x k overlapping slices that
a depthwise convolution reads on CPU, and counts one turn of a loop.) Beside
them the least that is conceivable: what convolutions, matmuls and reductions
alone read and write.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments.hlo import Instruction, bytes_of, executed
from experiments.workloads import optimizer
from proxyless_jax.nn import build, cpu_kernels, init
from proxyless_jax.nn.ops.base import make
from proxyless_jax.nn.ops.shapes import declared_shapes
from proxyless_jax.nn.supernet import bank
from proxyless_jax.space import Edge, Network, Zero
from proxyless_jax.training import metrics
from proxyless_jax.training.state import train_state
from proxyless_jax.training.steps import train_step

# Enough that what does not grow with the batch, the optimizer's traffic, is
# below 1 % of the bytes.
BATCH = 16
SMOOTHING = 0.1
# What reads its operands from memory and writes its results there, whatever
# is fused around it.
_HEAVY = ("convolution", "dot", "reduce")
# What moves nothing, or is counted by what it calls.
_LIGHT = (
  "parameter",
  "constant",
  "get-tuple-element",
  "tuple",
  "bitcast",
  "call",
)


class Costs(NamedTuple):
  """Of one image, all that moves being float32.

  Attributes:
    flops: operations of the program.
    traffic: bytes read and written, as compiled for CPU.
    least: bytes that heavy operations alone read and write.
  """

  flops: float
  traffic: float
  least: float

  def __add__(self, other):
    return Costs(*(a + b for a, b in zip(self, other)))

  def __mul__(self, factor):
    return Costs(*(a * factor for a in self))


class _Traffic(NamedTuple):
  bytes: int


def _heavy(instruction: Instruction) -> _Traffic | None:
  if instruction.opcode not in _HEAVY:
    return None
  return _traffic(instruction.operands + instruction.shapes)


def _any(instruction: Instruction) -> _Traffic | None:
  if instruction.opcode in _LIGHT:
    return None
  if instruction.opcode == "while":
    return _traffic(instruction.operands)
  return _traffic(instruction.operands + instruction.shapes)


def _traffic(shapes: tuple[str, ...]) -> _Traffic:
  return _Traffic(sum(map(bytes_of, shapes)))


def flops_of(function, *inputs) -> float:
  """Of one image, in a call over `BATCH` of them; as for `costs_of`."""
  with cpu_kernels.enabled(False):
    lowered = function.trace(*inputs).lower(lowering_platforms=("tpu",))
  return lowered.cost_analysis()["flops"] / BATCH


def costs_of(function, *inputs) -> Costs:
  """Of one call over `BATCH` images.

  Args:
    function: jitted.
    inputs: arrays, or their shapes.
  """
  # The kernels do not say what they compute.
  with cpu_kernels.enabled(False):
    traced = function.trace(*inputs)
    lowered = traced.lower(lowering_platforms=("tpu",))
    compiled = traced.lower().compile()
  return Costs(
    lowered.cost_analysis()["flops"] / BATCH,
    _total(compiled.as_text(), _any) / BATCH,
    _total(lowered.as_text("hlo"), _heavy) / BATCH,
  )


def _total(text: str, see) -> int:
  seen = executed(text, see)
  return sum(one.bytes * times for one, times in seen.items())


def batch_of(network: Network) -> dict:
  """The shapes of a batch of `BATCH` images."""
  image = (BATCH, *network.image_shape)
  return {
    "image": jax.ShapeDtypeStruct(image, jnp.float32),
    "label": jax.ShapeDtypeStruct((BATCH,), jnp.int32),
    "mask": jax.ShapeDtypeStruct((BATCH,), jnp.float32),
  }


def training(network: Network):
  """A training step, by the search's optimizer, and its inputs."""
  module, tx = build(network), optimizer()
  train = train_state(jax.random.key(0), init(module, jax.random.key(0)), tx)
  step = functools.partial(
    train_step,
    module=module,
    tx=tx,
    label_smoothing=SMOOTHING,
    ema_decay=0.0,
    drop_rate=None,
    grad_accum=1,
  )
  return jax.jit(step), train, batch_of(network)


def without_weight_gradients(network: Network):
  """A forward pass, and a backward pass with gradients of maps alone.

  Down to the output of the first searched block, where the first gates are: the
  gradient that is asked for is that of the bias which this block adds last.
  """
  module = build(network)
  variables = init(module, jax.random.key(0))
  first = network.edges[0]

  @jax.jit
  def gradient(variables, batch):
    def loss(bias):
      params = jax.tree.map(lambda leaf: leaf, variables["params"])  # A copy.
      params[first.name][first.op.name]["project_bn"]["bias"] = bias
      logits, _ = module.apply(
        {**variables, "params": params},
        batch["image"],
        train=True,
        mutable=["batch_stats"],
      )
      return metrics.cross_entropy(logits, batch, SMOOTHING)

    own = variables["params"][first.name][first.op.name]
    return jax.grad(loss)(own["project_bn"]["bias"])

  return gradient, variables, batch_of(network)


def candidates(place: Edge):
  """A forward pass of every candidate of an edge, one after the other."""
  ops = [op for op in place.ops if not isinstance(op, Zero)]

  @jax.jit
  def forward(variables, x):
    outputs = []
    for op, own in zip(ops, variables):
      module = make(op, place, name=op.name, bn_momentum=0.9, dropout=0.0)
      outputs.append(module.apply(own, x, True, mutable=["batch_stats"]))
    return outputs

  shapes = [nn.meta.unbox(declared_shapes(op, place)) for op in ops]
  image = (BATCH, *place.shape_in)
  return forward, shapes, jax.ShapeDtypeStruct(image, jnp.float32)


def projections(place: Edge):
  """The products that end the candidates of an edge."""

  @jax.jit
  def products(maps, kernels):
    return [x @ kernel for x, kernel in zip(maps, kernels)]

  hidden = [op.hidden(place) for op in place.ops if not isinstance(op, Zero)]
  rows = BATCH * place.pixels_out
  shapes = [
    [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in of_all]
    for of_all in (
      [(rows, n) for n in hidden],
      [(n, place.features_out) for n in hidden],
    )
  ]
  return products, *shapes


def random_paths(space: Network, count: int) -> list[Network]:
  """Architectures drawn with all candidates equally likely."""
  rng = np.random.default_rng(0)
  return [
    space.choose([int(rng.integers(len(edge.ops))) for edge in space.edges])
    for _ in range(count)
  ]


def of_steps(space: Network, paths: list[Network]) -> dict[str, Costs]:
  """Of the steps of a search, averaged over paths and candidates."""
  every, drawn, rerun = Costs(0, 0, 0), Costs(0, 0, 0), []
  of_place = functools.cache(lambda place: costs_of(*candidates(place)))
  of_saved = functools.cache(lambda place: costs_of(*projections(place)))
  for edge in space.edges:
    of_edge, share = of_place(bank.nameless(edge)), 1 / len(edge.ops)
    every += of_edge
    drawn += of_edge * share
    rerun.append((of_edge + of_saved(bank.nameless(edge)) * -1) * share)
  train, backward = Costs(0, 0, 0), Costs(0, 0, 0)
  for path in paths:
    train += costs_of(*training(path)) * (1 / len(paths))
    backward += costs_of(*without_weight_gradients(path)) * (1 / len(paths))
  return {
    "plain": train,
    "weight": sum(rerun, train),
    "arch full": sum(rerun[1:], backward) + every + drawn * -1,
    "arch two": sum(rerun[1:], backward) + drawn,
  }
