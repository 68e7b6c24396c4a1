"""Supernets of trees against their architectures, and all paths densely."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import proxyless_jax as pj
from proxyless_jax.hardware import cost_table
from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas import objective, reinforce
from proxyless_jax.nas.arch_step import arch_step
from proxyless_jax.nas.optimizers import arch_optimizer
from proxyless_jax.nas.state import WEIGHT_STREAM, search_state
from proxyless_jax.nas.weight_step import weight_step
from proxyless_jax.nn import banks, make
from proxyless_jax.nn.layers.channels import channel_shuffle
from proxyless_jax.nn.networks import tree as tree_lib
from proxyless_jax.nn.ops.shapes import declared_shapes
from proxyless_jax.nn.supernet import bank
from proxyless_jax.nn.supernet.rows import drawn_rows
from proxyless_jax.training.optimizers import weight_optimizer
from tests.spaces import widening_tree_space

pytestmark = pytest.mark.usefixtures("quick_compilation_of_module")


def random_variables(network):
  """Float64 variables, none of them zero or one."""
  rng = np.random.default_rng(0)
  variables = pj.init(pj.build(network), jax.random.key(0))
  noisy = jax.tree.map(
    lambda leaf: (
      np.asarray(leaf) + 0.1 * np.abs(rng.standard_normal(leaf.shape))
    ),
    variables,
  )
  for own in banks(network):
    for collection, tree in noisy.items():
      tree[own.name] *= filled(own, collection)
  return jax.tree.map(jnp.asarray, noisy)


def filled(own, collection):
  """Which entries of a bank an edge's candidate has, the others are zeros."""
  rows = [
    [
      own.pack(
        op,
        collection,
        jax.tree.map(
          lambda leaf: np.ones(leaf.shape, bool),
          nn.meta.unbox(declared_shapes(op, bank.nameless(edge)))[collection],
        ),
      )
      for op in own.form.ops
    ]
    for edge in own.edges
  ]
  return np.array(rows, bool)


SPACE = widening_tree_space()
INDEX = [0, 2, 1, 3, 2, 0, 0, 2, 3, 0, 1, 2]
PATH = gates_lib.path(jnp.array(INDEX), gates_lib.valid_candidates(SPACE))


def apply(network, variables, train, gates=None):
  images = np.random.default_rng(0).standard_normal((3, *SPACE.image_shape))
  return pj.build(network, dtype=jnp.float64).apply(
    variables, images, train=train, gates=gates, mutable=["batch_stats"]
  )


def loss_and_gradients(network, variables, train, gates=None):
  """Logits, new statistics, and gradients of the weights."""

  def loss(params):
    logits, new = apply(network, {**variables, "params": params}, train, gates)
    return jnp.sum(logits**2), (logits, new["batch_stats"])

  grads, aux = jax.grad(loss, has_aux=True)(variables["params"])
  return *aux, grads


@pytest.mark.parametrize(
  ("halves", "width", "stored"), [(2, 5, 8), (4, 6, 8), (3, 4, 4)]
)
def test_shuffled_halves_are_stored_as_others_are(halves, width, stored):
  """Each with its own channels in front of its zeros."""

  def store(x):
    x = x.reshape(halves, width)
    return np.pad(x, ((0, 0), (0, stored - width))).reshape(1, 1, 1, -1)

  own = np.arange(1.0, halves * width + 1).reshape(1, 1, 1, -1)
  got = channel_shuffle(store(own), halves)
  got = tree_lib._spread(got, halves, jnp.int32(width))
  want = store(np.asarray(channel_shuffle(own, halves)))
  assert_array_equal(got, want)


def test_a_space_computes_what_its_drawn_architecture_does():
  network = SPACE.choose(INDEX)
  run = jax.jit(loss_and_gradients, static_argnums=(0, 2))
  with jax.enable_x64(True):
    variables = random_variables(SPACE)
    logits, stats, grads = run(SPACE, variables, True, PATH)
    mine = pj.inherit(SPACE, jax.device_get(variables), network)
    expected, *of_network = run(network, mine, True)
  assert_allclose(logits, expected, rtol=1e-10)
  new = {"batch_stats": stats, "params": grads}
  inherited = pj.inherit(SPACE, jax.device_get(new), network)
  jax.tree.map(
    lambda a, b: assert_allclose(a, b, rtol=1e-8, atol=1e-10),
    [inherited["batch_stats"], inherited["params"]],
    of_network,
  )
  # Off the path, and in the channels that a block lacks, nothing moves.
  drawn = drawn_rows(SPACE, np.array(INDEX))
  for own in banks(SPACE):
    on_path = filled(own, "params")
    if own.name in drawn:
      others = np.arange(4) != drawn[own.name][:, None]
      on_path &= ~others[:, :, None]
      old = np.asarray(variables["batch_stats"][own.name])
      assert_array_equal(stats[own.name][others], old[others])
    assert_array_equal(np.asarray(grads[own.name])[~on_path], 0.0)


# Two blocks, 6 and 8 wide and stored alike, of 4 edges each.
TINY = pj.tree_space(
  image_size=3,
  channels=2,
  classes=3,
  stem_width=4,
  alpha=4,
  depths=(2,),
  expand=1,
  levels=1,
  candidates=("sep_conv_3", "max_pool_3", "sep_conv_5", "identity"),
)


def dense_logits(variables, images, gate):
  """sum_j gate_j o_j(x) on every edge, all candidates run."""
  trees = candidate_trees(variables)

  def run(edge, op, x):
    module = make(op, edge, name=None, bn_momentum=0.9, dropout=0.0)
    own = {name: t.get((edge.name, op.name), {}) for name, t in trees.items()}
    return module.apply(own, x, True, mutable=["batch_stats"])[0]

  def plain(edge, x):
    return run(edge, edge.op, x)

  numbers = {edge.name: i for i, edge in enumerate(TINY.edges)}

  def mixed(edge, x):
    weights = gate[numbers[edge.name]]
    return sum(w * run(edge, op, x) for w, op in zip(weights, edge.ops))

  x = images
  for edge in TINY.before:
    x = plain(edge, x)
  for block in TINY.blocks:
    trees_of = functools.partial(tree_lib._run_trees, block, mixed)
    x = tree_lib._run_block(block, plain, trees_of, x)
  for edge in TINY.after:
    x = plain(edge, x)
  return x


def candidate_trees(variables):
  """By edge and operation, for each collection."""
  trees = {}
  for collection, tree in variables.items():
    trees[collection] = {
      (edge, op): own
      for edge, named in tree.items()
      if isinstance(named, dict)
      for op, own in named.items()
    }
    for own in banks(TINY):
      for row, edge in zip(tree[own.name], own.edges):
        for op, candidate in zip(edge.ops, row):
          trees[collection][edge.name, op.name] = own.unpack(
            op, edge, collection, candidate
          )
  return trees


def loss_of(logits):
  return jnp.sum(
    jnp.sin(logits) * jnp.arange(1.0, logits.size + 1).reshape(logits.shape)
  )


def test_gradients_equal_dense_enumeration():
  valid = gates_lib.valid_candidates(TINY)
  with jax.enable_x64(True):
    rng = np.random.default_rng(1)
    images = jnp.asarray(rng.standard_normal((3, 3, 3, 2)))
    arch = jnp.asarray(rng.standard_normal(valid.shape))
    variables = random_variables(TINY)
    module = pj.build(TINY, dtype=jnp.float64)

    def drawn_loss(params, arch, key, two):
      both = (gates_lib.draw(key, arch, valid, m) for m in ("two", "full"))
      logits, _ = module.apply(
        {**variables, "params": params},
        images,
        train=True,
        gates=jax.tree.map(functools.partial(jnp.where, two), *both),
        mutable=["batch_stats"],
      )
      return loss_of(logits)

    def dense_loss(params, gate):
      return loss_of(
        dense_logits({**variables, "params": params}, images, gate)
      )

    of_drawn = jax.jit(jax.value_and_grad(drawn_loss, (0, 1)))
    of_dense = jax.jit(jax.value_and_grad(dense_loss, (0, 1)))
    close = functools.partial(assert_allclose, rtol=1e-7, atol=1e-9)
    for mode in gates_lib.MODES:
      for key in jax.random.split(jax.random.key(5), 8):
        drawn = gates_lib.draw(key, arch, valid, mode)
        value, got = of_drawn(variables["params"], arch, key, mode == "two")
        wanted, want = of_dense(variables["params"], drawn.gate)
        assert_allclose(value, wanted, rtol=1e-10)
        jax.tree.map(close, got[0], want[0])
        close(got[1], published_rule(arch, drawn.involved, want[1]))


def published_rule(arch, involved, dgate):
  """sum_j dL/dg_j p_j (delta_ij - p_i), p over the involved."""
  weights = np.where(involved, np.exp(arch), 0.0)
  p = weights / weights.sum(axis=1, keepdims=True)
  mean = np.sum(p * dgate, axis=1, keepdims=True)
  return p * (dgate - mean)


def first_state(tx, arch_tx):
  return search_state(
    jax.random.key(0),
    pj.init(pj.build(TINY), jax.random.key(1)),
    gates_lib.valid_candidates(TINY),
    tx,
    arch_tx,
    1.0,
    costs=1,
  )


def counted(step, traces):
  def run(*args, **kwargs):
    traces.append(1)
    return step(*args, **kwargs)

  return jax.jit(run)


def test_steps_trace_once_and_leave_what_they_do_not_train():
  valid, module = gates_lib.valid_candidates(TINY), pj.build(TINY)
  tx = weight_optimizer(
    0.1, momentum=0.9, nesterov=True, weight_decay=1e-3, kernels_only=False
  )
  arch_tx = arch_optimizer(0.1, b1=0.0, b2=0.999, weight_decay=0.0)
  table = cost_table("macs", TINY)
  costs = (
    objective.Cost("macs", table, objective.AtMost(table.min_cost, 0.1)),
  )
  both = dict(module=module, valid=valid, label_smoothing=0.1, grad_accum=1)
  traces = []
  weight = counted(functools.partial(weight_step, tx=tx, **both), traces)
  of_arch = dict(tx=arch_tx, costs=costs, **both)
  arch_steps = [
    counted(functools.partial(arch_step, mode="full", **of_arch), traces),
    counted(
      functools.partial(
        reinforce.reinforce_step,
        samples=2,
        baseline_decay=0.9,
        entropy_weight=0.1,
        **of_arch,
      ),
      traces,
    ),
  ]
  batch = {
    "image": np.random.default_rng(0).standard_normal((4, 3, 3, 2), np.float32),
    "label": np.arange(4, dtype=np.int32) % 3,
    "mask": np.ones(4, np.float32),
  }
  current = first_state(tx, arch_tx)
  for _ in range(3):
    before = current
    key = current.step_key(WEIGHT_STREAM)
    index = gates_lib.draw(key, current.arch, valid, "full").index
    current, _ = weight(current, batch)
    check_off_path(before, current, np.asarray(index))
  for step in arch_steps:
    before = current
    for _ in range(2):
      current, metrics = step(current, batch)
    assert np.isfinite(metrics["arch_loss"].total)
    assert (before.arch != current.arch).any()
    for name in ("params", "batch_stats", "opt_state"):
      jax.tree.map(
        assert_array_equal, getattr(before, name), getattr(current, name)
      )
  assert len(traces) == 3


def check_off_path(before, after, index):
  """Bits of parameters and statistics off the path; those on it move."""
  drawn = drawn_rows(TINY, index)
  for own in banks(TINY):
    if own.name not in drawn:
      assert (before.params[own.name] != after.params[own.name]).any()
      continue
    others = np.arange(4) != np.asarray(drawn[own.name])[:, None]
    for name in ("params", "batch_stats"):
      old, new = (
        np.asarray(getattr(s, name)[own.name]) for s in (before, after)
      )
      assert_array_equal(old[others], new[others])
    # Zeros in channels that a block lacks stay zeros.
    params = np.asarray(after.params[own.name])
    assert_array_equal(params[~filled(own, "params")], 0.0)


def test_drawn_rows_are_those_of_every_bank():
  drawn = drawn_rows(SPACE, jnp.arange(12))
  assert jax.tree.map(np.ndarray.tolist, jax.device_get(drawn)) == {
    "block01_edge0_0": [*range(8)],
    "block03_edge0_0": [*range(8, 12)],
  }
