"""An operation and a space of a user's own, through a search, by public API.

Nothing of the package is edited: a subclass of `Op`, a registered module of
plain flax layers, and a `Network` of edges.
"""

from __future__ import annotations

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import proxyless_jax as pj
from proxyless_jax.nas import gates
from proxyless_jax.nas.arch_step import arch_step
from proxyless_jax.nas.derive import derive
from proxyless_jax.nas.objective import Cost, Linear
from proxyless_jax.nas.optimizers import arch_optimizer
from proxyless_jax.nas.state import search_state
from proxyless_jax.nas.weight_step import weight_step
from proxyless_jax.training.state import train_state
from proxyless_jax.training.steps import train_step

pytestmark = pytest.mark.usefixtures("quick_compilation_of_module")


@dataclasses.dataclass(frozen=True)
class Dense(pj.Op):
  """kxk convolution with bias, with or without batch norm, ReLU."""

  kernel: int
  norm: bool

  @property
  def name(self):
    return f"dense_k{self.kernel}" + ("_bn" if self.norm else "")

  def parameters(self, edge):
    weights = self.kernel**2 * edge.features_in + 1
    return (weights + 2 * self.norm) * edge.features_out

  def macs(self, edge):
    weights = self.kernel**2 * edge.features_in * edge.features_out
    return weights * edge.pixels_out


class DenseModule(nn.Module):
  op: Dense
  features: int
  stride: int

  @nn.compact
  def __call__(self, x, train):
    kernel, pad = (self.op.kernel,) * 2, self.op.kernel // 2
    x = nn.Conv(
      self.features,
      kernel,
      strides=self.stride,
      padding=pad,
      bias_init=nn.initializers.constant(0.25),
    )(x)
    if self.op.norm:
      x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(x)
    return nn.relu(x)


@pj.make.register
def _(op: Dense, edge, *, name, bn_momentum, dropout):
  del bn_momentum, dropout
  return DenseModule(op, edge.features_out, edge.stride, name=name)


@dataclasses.dataclass(frozen=True)
class Pool(pj.Op):
  """Mean over the image, without parameters: the end of a network."""

  name = "pool"

  def parameters(self, edge):
    return 0

  def macs(self, edge):
    return 0


class PoolModule(nn.Module):
  def __call__(self, x, train):
    del train
    return jnp.mean(x.astype(jnp.float32), (1, 2))


@pj.make.register
def _(op: Pool, edge, *, name, **options):
  return PoolModule(name=name)


PLAIN, NORMED, SMALL = Dense(3, False), Dense(3, True), Dense(1, False)
OWN = (PLAIN, NORMED, SMALL, Pool())


def space_of(ops):
  return pj.Chain(
    before=(pj.Edge("in", (SMALL,), 2, 4, 1, 6),),
    edges=(
      pj.Edge("down", ops, 4, 4, 2, 6),
      pj.Edge("one", ops, 4, 4, 1, 3, shortcut=True),
      pj.Edge("two", ops, 4, 4, 1, 3, shortcut=True),
      pj.Edge("wide", (NORMED,) if NORMED in ops else (PLAIN,), 4, 3, 1, 3),
    ),
    after=(pj.Edge("out", (Pool(),), 3, 3, 1, 3),),
  )


def batch_of(seed):
  rng = np.random.default_rng(seed)
  return {
    "image": jnp.asarray(rng.standard_normal((4, 6, 6, 2)), jnp.float32),
    "label": jnp.asarray(rng.integers(3, size=4)),
    "mask": jnp.ones(4),
  }


def searched(space, dtype=jnp.float32, rounds=3):
  """The state after a few steps."""
  module, mask = pj.build(space, dtype=dtype), gates.valid_candidates(space)
  tx = optax.sgd(0.1, momentum=0.9)
  arch_tx = arch_optimizer(0.1, b1=0.0, b2=0.999, weight_decay=0.0)
  common = dict(module=module, valid=mask, label_smoothing=0.0, grad_accum=1)
  table = pj.cost_table("macs", space)
  weights = jax.jit(functools.partial(weight_step, tx=tx, **common))
  arch = jax.jit(
    functools.partial(
      arch_step,
      tx=arch_tx,
      costs=(Cost("macs", table, Linear(0.1, table.max_cost)),),
      mode="two",
      **common,
    )
  )
  variables = pj.init(module, jax.random.key(0))
  first = search_state(
    jax.random.key(1), variables, mask, tx, arch_tx, 1e-3, costs=1
  )
  state = first
  for i in range(rounds):
    state, metrics = weights(state, batch_of(2 * i))
    state, arch_metrics = arch(state, batch_of(2 * i + 1))
    assert np.isfinite(metrics["loss"].total)
    assert np.isfinite(arch_metrics["arch_loss"].total)
  assert (np.asarray(first.arch) != np.asarray(state.arch)).any()
  return state, derive(state.arch, mask)


@pytest.mark.parametrize(
  "ops,dtype",
  [((PLAIN, NORMED), jnp.bfloat16), ((PLAIN, SMALL), jnp.float32)],
  ids=["with batch norm in bfloat16", "without"],
)
def test_search_derive_inherit_save_load_train(ops, dtype, tmp_path):
  space = space_of(ops)
  state, index = searched(space, dtype)
  network = space.choose(index)
  path = tmp_path / "architecture.json"
  network.to_json(path)
  assert pj.load_network(path, ops=OWN) == network
  with pytest.raises(ValueError, match=rf"unknown operation '{SMALL.name}'"):
    pj.load_network(path)

  variables = pj.inherit(
    space,
    {"params": state.params, "batch_stats": state.batch_stats},
    network,
  )
  sizes = [leaf.size for leaf in jax.tree.leaves(variables["params"])]
  assert sum(sizes) == pj.parameters(network)
  batch = batch_of(100)
  drawn = pj.build(space).apply(
    {"params": state.params, "batch_stats": state.batch_stats},
    batch["image"],
    train=False,
    gates=gates.path(jnp.asarray(index), gates.valid_candidates(space)),
  )
  module = pj.build(network)
  logits = module.apply(variables, batch["image"], train=False)
  assert_allclose(logits, drawn, rtol=1e-4, atol=1e-5)

  tx = optax.sgd(0.1)
  train = jax.jit(
    functools.partial(
      train_step,
      module=module,
      tx=tx,
      label_smoothing=0.0,
      ema_decay=0.9,
      drop_rate=None,
      grad_accum=1,
    )
  )
  own = train_state(jax.random.key(2), variables, tx)
  losses = []
  for _ in range(10):
    own, metrics = train(own, batch)
    losses.append(float(metrics["loss"].total))
  assert losses[-1] < losses[0]


def test_its_own_initialisers_are_run():
  variables = pj.init(pj.build(space_of((PLAIN, NORMED))), jax.random.key(0))
  own = variables["params"]["in"][SMALL.name]["Conv_0"]
  assert_array_equal(own["bias"], np.full(4, 0.25))
  rows = np.asarray(variables["params"]["one"])
  assert len(np.unique(rows[:, :, 4:], axis=0)) == 2
  assert_array_equal(
    variables["batch_stats"]["one"][:, 1], [[0.0] * 4 + [1.0] * 4] * 2
  )


@dataclasses.dataclass(frozen=True)
class Wrong(Dense):
  """Its module is at fault."""

  how: str = ""

  @property
  def name(self):
    return self.how


@pj.make.register
def _(op: Wrong, edge, *, name, **options):
  if op.how == "nameless":
    return DenseModule(op, edge.features_out, edge.stride)
  return DenseModule(op, edge.features_out + 1, edge.stride, name=name)


@pytest.mark.parametrize(
  "how,message",
  [
    ("nameless", "pass on the argument `name`"),
    ("misshapen", r"gives \[b, \*\(3, 3, 5\)\]: expected"),
  ],
)
def test_a_module_at_fault_is_an_error_before_the_search(how, message):
  space = space_of((PLAIN, Wrong(3, False, how)))
  with pytest.raises(ValueError, match=rf"operation '{how}'.*{message}"):
    pj.init(pj.build(space), jax.random.key(0))
