"""What the experiments on speed measure: spaces, batches and steps.

    features   the 21 edges of the ImageNet space, at 32x32 features
    digits     the space of `configs/mnist_plain.py`, of an embedded job
    macro      the space of NAS-Bench-Macro, at 32 pixels
    imagenet   the space of `configs/imagenet_gpu.py`, at 224 pixels
    tiny       one edge, for tests of the experiments
    imagenet1  the same with one block a stage: compiled in a fraction of the
               time

All need JAX, Flax and Optax alone: no config is read.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from experiments.macro import benchmark
from proxyless_jax.hardware import cost_table
from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas import objective
from proxyless_jax.nas.arch_step import arch_step
from proxyless_jax.nas.optimizers import arch_optimizer
from proxyless_jax.nas.state import search_state
from proxyless_jax.nas.weight_step import weight_step
from proxyless_jax.nn import build, init
from proxyless_jax.space import Chain, MBConv, Network, mobile_space
from proxyless_jax.training.optimizers import weight_optimizer
from proxyless_jax.training.state import train_state
from proxyless_jax.training.steps import train_step

BATCH = 32
SMOOTHING = 0.1
# Every kernel and expansion, in every stage; no skipped block, so that the
# plain network is as large as a drawn one can be.
PATH = [f"mbconv{e}_k{k}" for e, k in ((6, 3), (3, 7), (6, 5), (3, 3), (6, 7))]


def features() -> Chain:
  """The workload that the first prototypes were measured on."""
  return mobile_space(
    image_size=32, classes=10, stem_stride=1, strides=(1, 2, 2, 1, 2, 1)
  )


def digits() -> Chain:
  """The space of `configs/mnist_plain.py`."""
  return mobile_space(
    image_size=28,
    channels=1,
    classes=10,
    stem_width=16,
    first_width=0,
    widths=(16, 40),
    depths=(3, 4),
    strides=(1, 2),
    head_width=128,
  )


def imagenet(depths: tuple[int, ...] = (4, 4, 4, 4, 4, 1)) -> Chain:
  """The space of `configs/imagenet_gpu.py`, with so many blocks a stage."""
  return mobile_space(
    stem_width=40,
    first_width=24,
    widths=(32, 56, 112, 128, 256, 432),
    depths=depths,
    strides=(2, 2, 2, 1, 2, 1),
    head_width=1728,
  )


def tiny() -> Chain:
  """For tests of the experiments: one edge, and little to compile."""
  return mobile_space(
    image_size=8,
    classes=10,
    stem_width=8,
    first_width=0,
    widths=(8,),
    depths=(1,),
    strides=(1,),
    candidates=("mbconv1_k3", "zero"),
    head_width=16,
  )


SPACES = {
  "features": features,
  "digits": digits,
  "macro": benchmark.space,
  "imagenet": imagenet,
  "tiny": tiny,
  "imagenet1": functools.partial(imagenet, (1,) * 6),
}


def path_of(space: Network) -> list[str]:
  """The candidates that are measured: `PATH` again and again.

  In a space without these, its own MBConvs in turn.
  """
  (first, *_) = space.edges
  own = [op.name for op in first.ops if isinstance(op, MBConv)]
  cycle = PATH if set(PATH) <= set(own) else own
  return [cycle[i % len(cycle)] for i in range(len(space.edges))]


def optimizer():
  """SGD as released; both sides use it."""
  return weight_optimizer(
    0.01, momentum=0.9, nesterov=True, weight_decay=4e-5, kernels_only=False
  )


def make_batch(space: Network, key: jax.Array, batch: int = BATCH) -> dict:
  """Random images and labels."""
  shape = (batch, *space.image_shape)
  image = jax.random.normal(key, shape)
  label = jnp.arange(batch, dtype=jnp.int32) % 10
  return {"image": image, "label": label, "mask": jnp.ones(batch)}


def search_start(module):
  """A search's first state, its candidates, and its two optimizers."""
  valid, tx = gates_lib.valid_candidates(module.network), optimizer()
  arch_tx = arch_optimizer(1e-3, b1=0.0, b2=0.999, weight_decay=0.0)
  search = search_state(
    jax.random.key(0),
    init(module, jax.random.key(1)),
    valid,
    tx,
    arch_tx,
    1e-3,
    costs=1,
  )
  return search, valid, tx, arch_tx


def search_steps(
  space: Network,
  dtype=jnp.float32,
  paths: int = 1,
  mesh: Mesh | None = None,
):
  """The state, and the jitted weight and architecture steps of a search.

  Args:
    space: any.
    dtype: type of activations.
    paths: number of paths of a weight step.
    mesh: devices that share the batch; None for one device.
  """
  module = build(space, dtype=dtype)
  search, valid, tx, arch_tx = search_start(module)
  weight = functools.partial(
    weight_step,
    module=module,
    valid=valid,
    tx=tx,
    label_smoothing=SMOOTHING,
    grad_accum=1,
    paths=paths,
    mesh=mesh,
  )
  table = cost_table("macs", space)
  target = objective.AtMost(table.min_cost * 2, 0.01)
  arch = functools.partial(
    arch_step,
    module=module,
    valid=valid,
    tx=arch_tx,
    costs=(objective.Cost("macs", table, target),),
    label_smoothing=SMOOTHING,
    grad_accum=1,
    mesh=mesh,
  )
  jitted = {"weight": jax.jit(weight, donate_argnums=0)}
  for mode in gates_lib.MODES:
    step = functools.partial(arch, mode=mode)
    jitted[f"arch {mode}"] = jax.jit(step, donate_argnums=0)
  return search, jitted


def plain_step(
  space: Network,
  dtype=jnp.float32,
  path: Sequence[int] | None = None,
  mesh: Mesh | None = None,
):
  """The state and the jitted training step of a network.

  Args:
    space: any.
    dtype: type of activations.
    path: the network's candidates; if left out, those of `path_of`.
    mesh: devices that share the batch; None for one device.
  """
  choice = chosen(space) if path is None else path
  module = build(space.choose(list(choice)), dtype=dtype)
  tx = optimizer()
  variables = init(module, jax.random.key(1))
  train = train_state(jax.random.key(0), variables, tx)
  step = functools.partial(
    train_step,
    module=module,
    tx=tx,
    label_smoothing=SMOOTHING,
    ema_decay=0.0,
    drop_rate=None,
    grad_accum=1,
    mesh=mesh,
  )
  return train, jax.jit(step, donate_argnums=0)


def force_path(search, space: Network, path: Sequence[int] | None = None):
  """The state with all probability on a path; if left out, `path_of`."""
  choice = chosen(space) if path is None else path
  return search.replace(
    arch=50.0 * jax.nn.one_hot(jnp.array(choice), search.arch.shape[1])
  )


def chosen(space: Network) -> list[int]:
  """`path_of` as positions among each edge's candidates."""
  return [edge.index(name) for edge, name in zip(space.edges, path_of(space))]
