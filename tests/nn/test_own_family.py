"""A family of networks of a user's own: description, module, banks, picture.

Nothing of the package is edited. The whole family is between the two lines, as
docs/extend.md shows it.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

import proxyless_jax as pj
from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas.arch_step import arch_step
from proxyless_jax.nas.derive import derive
from proxyless_jax.nas.objective import Cost, Linear
from proxyless_jax.nas.optimizers import arch_optimizer
from proxyless_jax.nas.state import search_state
from proxyless_jax.nas.weight_step import weight_step
from proxyless_jax.report.figure import draw_architecture
from proxyless_jax.training.state import train_state
from proxyless_jax.training.steps import train_step


# ----------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class TwoBranches(pj.Network):
  """A stem, two lines of searched edges whose outputs are added, a head."""

  before: tuple[pj.Edge, ...]
  left: tuple[pj.Edge, ...]
  right: tuple[pj.Edge, ...]
  after: tuple[pj.Edge, ...]
  family = "two_branches"

  @property
  def edges(self):
    return self.left + self.right

  @property
  def layers(self):
    return self.before + self.edges + self.after

  def with_edges(self, edges):
    left, right = edges[: len(self.left)], edges[len(self.left) :]
    return dataclasses.replace(self, left=left, right=right)


class TwoBranchesModule(pj.nn.NetworkModule):
  def run(self, x, train, gates, drop_rate):
    of_call, network = (train, gates, drop_rate), self.network
    x = self.line(network.before, x, *of_call)
    left = self.line(network.left, x, *of_call)
    right = self.line(network.right, x, *of_call)
    return self.line(network.after, left + right, *of_call)


pj.nn.network_module.register(TwoBranches, TwoBranchesModule)


@pj.nn.banks.register
def _(network: TwoBranches):
  return pj.nn.line_banks(network.left) + pj.nn.line_banks(network.right)


# ----------------------------------------------------------------------------


pytestmark = pytest.mark.usefixtures("quick_compilation_of_module")


def searched(name):
  ops = tuple(map(pj.space.parse_op, ("mbconv1_k3", "mbconv1_k5", "zero")))
  return pj.Edge(name, ops, 4, 4, 1, 4, shortcut=True)


# The last edge of one branch is like the first of the other: one line of all
# four would join them.
SPACE = TwoBranches(
  before=(pj.Edge("stem", (pj.space.ConvBN(3),), 3, 4, 2, 8),),
  left=(searched("left1"), searched("left2")),
  right=(searched("right1"), searched("right2")),
  after=(pj.Edge("classifier", (pj.space.Classifier(),), 4, 3, 1, 4),),
)
VALID = gates_lib.valid_candidates(SPACE)
BATCH = {
  "image": np.random.default_rng(0).standard_normal((4, 8, 8, 3), np.float32),
  "label": np.arange(4, dtype=np.int32) % 3,
  "mask": np.ones(4, np.float32),
}
STEP = dict(label_smoothing=0.0, grad_accum=1)


@functools.cache
def first_variables():
  return jax.device_get(pj.init(pj.build(SPACE), jax.random.key(0)))


@functools.cache
def after_a_search():
  """The state after a step of the weights and one of the architecture."""
  tx = optax.sgd(0.1)
  arch_tx = arch_optimizer(0.1, b1=0.0, b2=0.999, weight_decay=0.0)
  table = pj.cost_table("macs", SPACE)
  costs = (Cost("macs", table, Linear(0.1, table.max_cost)),)
  common = dict(module=pj.build(SPACE), valid=VALID, **STEP)
  variables = jax.device_put(first_variables())
  state = search_state(
    jax.random.key(1), variables, VALID, tx, arch_tx, 1e-3, costs=1
  )
  weight = functools.partial(weight_step, tx=tx, **common)
  arch = functools.partial(
    arch_step, tx=arch_tx, costs=costs, mode="two", **common
  )
  state, metrics = jax.jit(weight)(state, BATCH)
  assert np.isfinite(metrics["loss"].total)
  return jax.jit(arch)(state, BATCH)[0]


def test_a_branch_has_a_bank_of_its_own():
  names = [bank.name for bank in pj.nn.banks(SPACE)]
  assert names == ["left1", "right1"]
  assert first_variables()["params"]["right1"].shape[:2] == (2, 3)


def test_both_steps_of_a_search_train_it():
  state = after_a_search()
  old, new = first_variables()["params"], jax.device_get(state.params)
  index = derive(state.arch, VALID)
  assert len(index) == 4 and (np.asarray(state.arch) != 0.0).any()
  moved = [name for name in old if not same(old[name], new[name])]
  assert {"stem", "classifier"} <= set(moved)


def same(one, other):
  pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other))
  return all(np.array_equal(*pair) for pair in pairs)


def test_an_architecture_computes_what_the_space_does_and_trains():
  index = [0, 1, 2, 1]
  network = SPACE.choose(index)
  variables = pj.inherit(SPACE, first_variables(), network)
  module = pj.build(network)
  path = gates_lib.path(jnp.array(index), VALID)
  of_space = pj.build(SPACE).apply(
    first_variables(), BATCH["image"], train=False, gates=path
  )
  logits = module.apply(variables, BATCH["image"], train=False)
  assert_allclose(logits, of_space, rtol=1e-5, atol=1e-6)
  sizes = [leaf.size for leaf in jax.tree.leaves(variables["params"])]
  assert sum(sizes) == pj.parameters(network)

  tx = optax.sgd(0.1)
  train = functools.partial(
    train_step,
    module=module,
    tx=tx,
    ema_decay=0.9,
    drop_rate=lambda step: 0.1,
    **STEP,
  )
  state = train_state(jax.random.key(2), jax.device_put(variables), tx)
  losses = []
  for _ in range(2):
    state, metrics = jax.jit(train)(state, BATCH)
    losses.append(float(metrics["loss"].total))
  assert np.isfinite(losses).all()


def test_it_has_a_picture(tmp_path):
  paths = tmp_path / "net.svg", tmp_path / "net.png"
  draw_architecture(SPACE.choose([0, 1, 2, 1]), *paths)
  assert all(path.stat().st_size > 1000 for path in paths)


def test_a_family_without_a_module_is_an_error():
  module_of = pj.nn.network_module.dispatch(pj.Network)
  options = dict(dtype=jnp.float32, bn_momentum=0.9, dropout=0.0, frozen=())
  with pytest.raises(TypeError, match="register one by"):
    module_of(SPACE, **options)


def test_a_supernet_without_banks_of_its_lines_is_an_error():
  @dataclasses.dataclass(frozen=True)
  class Unbanked(TwoBranches):
    family = "unbanked"

  # As if none were registered: all edges as one line.
  pj.nn.banks.register(Unbanked, pj.nn.banks.dispatch(pj.Network))
  parts = (getattr(SPACE, field.name) for field in dataclasses.fields(SPACE))
  module = pj.build(Unbanked(*parts))
  variables = pj.init(module, jax.random.key(0))
  gates = gates_lib.path(np.zeros(4, np.int32), VALID)
  message = r"runs the edges \['left1', 'left2'\] together: .*banks\.register"
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(
      lambda v: module.apply(v, BATCH["image"], False, gates), variables
    )
