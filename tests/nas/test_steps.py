"""The steps: what moves, by how much, and that nothing else does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from proxyless_jax.hardware import cost_table
from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas import objective
from proxyless_jax.nas.arch_step import arch_step
from proxyless_jax.nas.optimizers import arch_optimizer
from proxyless_jax.nas.state import ARCH_STREAM, WEIGHT_STREAM, search_state
from proxyless_jax.nas.weight_step import weight_step
from proxyless_jax.nn import banks, build, inherit, init, make
from proxyless_jax.training import metrics
from proxyless_jax.training.optimizers import weight_optimizer
from proxyless_jax.training.state import train_state
from proxyless_jax.training.steps import eval_step, train_step
from tests.spaces import small_space

close = functools.partial(assert_allclose, rtol=1e-4, atol=1e-5)


def batch_of(seed, size=(6, 9), channels=2, dtype=np.float32):
  rng = np.random.default_rng(seed)
  return {
    "image": jnp.asarray(rng.standard_normal((4, *size, channels)), dtype),
    "label": jnp.asarray(rng.integers(3, size=4), jnp.int32),
    "mask": jnp.ones(4, dtype),
  }


def space_of(**changes):
  arguments = dict(
    image_size=(6, 9), widths=(8, 16), depths=(2, 1), strides=(1, 2)
  )
  return small_space(**arguments | changes)


SPACE = space_of()
VALID = gates_lib.valid_candidates(SPACE)
TX = weight_optimizer(
  0.05, momentum=0.9, nesterov=True, weight_decay=0.01, kernels_only=False
)
ARCH_TX = arch_optimizer(0.01, b1=0.0, b2=0.999, weight_decay=0.0)
MODULE = build(SPACE)


def first_state():
  variables = init(MODULE, jax.random.key(0))
  return search_state(
    jax.random.key(1), variables, VALID, TX, ARCH_TX, arch_scale=0.5, costs=1
  )


def weight_step_of(module, valid):
  return functools.partial(
    weight_step,
    module=module,
    valid=valid,
    tx=TX,
    label_smoothing=0.1,
    grad_accum=1,
  )


def arch_step_of(module, valid, costs=(), **settings):
  return functools.partial(
    arch_step,
    **dict(
      module=module,
      valid=valid,
      tx=ARCH_TX,
      costs=costs,
      mode="two",
      label_smoothing=0.1,
      grad_accum=1,
    )
    | settings,
  )


@pytest.fixture(scope="module")
def jitted():
  return jax.jit(weight_step_of(MODULE, VALID))


def gates_of(state):
  """The draw of the state's next weight step."""
  key = state.step_key(WEIGHT_STREAM)
  return gates_lib.draw(key, state.arch, VALID, "full")


def off_path(index):
  """Per bank: bool[n, k], the rows that a draw leaves out."""
  rows, first = {}, 0
  for bank in banks(SPACE):
    own = np.asarray(index)[first : first + len(bank.edges)]
    rows[bank.name] = np.arange(len(bank.form.ops)) != own[:, None]
    first += len(bank.edges)
  return rows


def assert_same(one, other):
  """Equal bits; PRNG keys too."""
  if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
    one, other = jax.random.key_data(one), jax.random.key_data(other)
  assert_array_equal(one, other)


def trace_of(state):
  return optax.tree_utils.tree_get(state.opt_state, "trace")


def test_a_weight_step_keeps_the_bits_of_all_that_is_off_its_path(jitted):
  state = first_state()
  paths = set()
  for i in range(4):
    index = gates_of(state).index
    paths.add(tuple(index.tolist()))
    new, metrics = jitted(state, batch_of(i))
    for name, off in off_path(index).items():
      for tree in (lambda s: s.params, trace_of, lambda s: s.batch_stats):
        before, after = (np.asarray(tree(s)[name]) for s in (state, new))
        assert_array_equal(before[off], after[off])
    for name in ("arch", "arch_opt_state", "multipliers", "key"):
      jax.tree.map(assert_same, getattr(state, name), getattr(new, name))
    assert int(new.step) == i + 1
    assert metrics["loss"].count == 4.0
    state = new
  assert len(paths) > 1


def test_on_the_path_it_is_a_plain_step_of_the_drawn_network(jitted):
  state = first_state()
  for i in range(2):  # So that momentum takes part.
    state, _ = jitted(state, batch_of(i))
  batch = batch_of(2)
  network = SPACE.choose(gates_of(state).index.tolist())
  own = functools.partial(inherit, SPACE, network=network)
  variables = own({"params": state.params, "batch_stats": state.batch_stats})
  momentum = own({"params": trace_of(state)})["params"]
  plain = weight_optimizer(
    0.05, momentum=0.9, nesterov=True, weight_decay=0.01, kernels_only=False
  )
  opt_state = optax.tree_utils.tree_set(
    plain.init(variables["params"]), trace=momentum
  )
  before = train_state(jax.random.key(0), variables, plain)
  before = before.replace(opt_state=opt_state)
  plain_step = jax.jit(
    functools.partial(
      train_step,
      module=build(network),
      tx=plain,
      label_smoothing=0.1,
      ema_decay=0.5,
      drop_rate=None,
      grad_accum=1,
    )
  )
  want, plain_metrics = plain_step(before, batch)
  new, metrics = jitted(state, batch)
  jax.tree.map(close, metrics, plain_metrics)
  got = own({"params": new.params, "batch_stats": new.batch_stats})
  jax.tree.map(close, got["params"], want.params)
  jax.tree.map(close, got["batch_stats"], want.batch_stats)
  jax.tree.map(close, own({"params": trace_of(new)})["params"], trace_of(want))
  check_average(before, want, 0.1)
  after, _ = plain_step(want, batch)
  check_average(want, after, 2 / 11)
  late, _ = plain_step(want.replace(step=jnp.array(1000)), batch)
  check_average(want, late, 0.5)


def check_average(before, after, decay):
  """average <- decay average + (1 - decay) new, after a train step."""
  new = {"params": after.params, "batch_stats": after.batch_stats}
  jax.tree.map(
    lambda average, old, new: assert_allclose(
      average, decay * old + (1 - decay) * new, rtol=1e-5, atol=1e-7
    ),
    after.ema,
    before.ema,
    new,
  )


def test_bfloat16_steps_keep_float32_states(quick_compilation):
  """And an architecture step leaves weights and statistics alone."""
  space = space_of(image_size=4, widths=(8,), depths=(1,), strides=(1,))
  module = build(space, dtype=jnp.bfloat16)
  valid, table = gates_lib.valid_candidates(space), cost_table("macs", space)
  target = 0.9 * table.min_cost + 0.1 * table.max_cost
  state = search_state(
    jax.random.key(1),
    init(module, jax.random.key(0)),
    valid,
    TX,
    ARCH_TX,
    0.5,
    1,
  )
  common = dict(module=module, valid=valid)
  one_step = jax.jit(weight_step_of(**common))
  goal = objective.Cost("macs", table, objective.AtMost(target, 0.5))
  arch_step = jax.jit(arch_step_of(**common, costs=(goal,)))
  uninvolved = 0
  for i in range(3):
    dtypes = jax.tree.map(jnp.result_type, state)
    state, metrics = one_step(state, batch_of(i, (4, 4)))
    key = state.step_key(ARCH_STREAM)
    pair = np.asarray(gates_lib.draw(key, state.arch, valid, "two").involved)
    new, arch_metrics = arch_step(state, batch_of(i + 10, (4, 4)))
    for name in ("step", "params", "batch_stats", "opt_state", "key"):
      jax.tree.map(assert_same, getattr(state, name), getattr(new, name))
    probs = [gates_lib.probabilities(s.arch, valid) for s in (state, new)]
    others = valid & ~pair
    uninvolved += others.sum()
    assert_allclose(probs[1][others], probs[0][others], rtol=1e-5)
    assert (probs[1][pair] != probs[0][pair]).any()
    path = gates_lib.most_probable(new.arch, valid)
    derived = table.exact(space.choose(path.tolist()))
    assert_allclose(arch_metrics["derived_macs"].total, derived, rtol=1e-6)
    want = max(0.0, state.multipliers[0] + 0.5 * (derived / target - 1.0))
    assert_allclose(new.multipliers, [want], rtol=1e-5)
    multiplier = arch_metrics["multiplier_macs"].total
    assert_array_equal(multiplier, new.multipliers[0])
    state = new
    finite = jax.tree.map(
      lambda leaf: bool(jnp.isfinite(leaf).all()),
      (state.params, state.batch_stats, state.arch, metrics, arch_metrics),
    )
    assert all(jax.tree.leaves(finite))
    assert jax.tree.map(jnp.result_type, state) == dtypes
  assert uninvolved
  for tree in (state.params, state.batch_stats, state.arch):
    assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {np.dtype("f")}


# Architecture gradients in float64, against all candidates run densely.
TINY = space_of(
  image_size=(4, 6),
  widths=(8,),
  depths=(1,),
  strides=(1,),
  candidates=("conv_k1", "conv_k3", "zero"),
)


def record():
  """An optimizer that subtracts the gradient: alpha - alpha' is it."""
  return optax.GradientTransformationExtraArgs(
    optax.init_empty_state,
    lambda grads, state, params=None, **_: (
      jax.tree.map(jnp.negative, grads),
      state,
    ),
  )


def dense_cross_entropy(module, variables, batch, gate):
  """Of sum_j gate_j o_j(x) on the one searched edge."""
  x = batch["image"]
  for edge in TINY.layers:
    y = 0.0
    for j, op in enumerate(edge.ops):
      own = inherit(TINY, variables, TINY.choose([j]))
      own = {c: t.get(edge.name, {}).get(op.name, {}) for c, t in own.items()}
      one = make(op, edge, name=None, bn_momentum=0.9, dropout=0.0)
      o, _ = one.apply(own, x, True, mutable=["batch_stats"])
      y += o if len(edge.ops) == 1 else gate[0, j] * o
    x = x + y if edge.shortcut else y
  return metrics.cross_entropy(x, batch, 0.1)


def softmax_rule(p, dp):
  """sum_j dL/dp_j p_j (delta_ij - p_i)."""
  jacobian = np.diag(p) - np.outer(p, p)
  return jacobian @ dp


@pytest.mark.parametrize(
  "mode,form", [("full", "log"), ("two", "target"), ("full", "both")]
)
def test_architecture_gradient_of_the_whole_objective(
  mode, form, quick_compilation
):
  with jax.enable_x64(True):
    valid = gates_lib.valid_candidates(TINY)
    table = cost_table("macs", TINY)
    goals = {
      "log": [objective.Log(0.7, 0.3, reference=1000.0)],
      "target": [objective.AtMost(5000.0, 0.1)],
    }
    goals["both"] = goals["target"] + goals["log"]
    costs = tuple(
      objective.Cost(f"c{i}", table, goal) for i, goal in enumerate(goals[form])
    )
    tx = record()
    module = build(TINY, dtype=jnp.float64)
    variables = jax.tree.map(
      lambda leaf: leaf.astype(jnp.float64), init(module, jax.random.key(0))
    )
    batch = batch_of(0, (4, 6), dtype=np.float64)
    state = search_state(
      jax.random.key(1),
      variables,
      valid,
      TX,
      tx,
      arch_scale=0.0,
      costs=len(costs),
    )
    state = state.replace(
      arch=jnp.array([[0.3, -0.2, 0.5]]),
      multipliers=jnp.full(len(costs), 0.6),
    )
    step = jax.jit(arch_step_of(module, valid, costs, tx=tx, mode=mode))
    dense = jax.jit(
      jax.value_and_grad(
        functools.partial(dense_cross_entropy, module, variables, batch)
      )
    )
    drawn = set()
    for number in range(10):
      state = state.replace(step=jnp.array(number))
      key = state.step_key(ARCH_STREAM)
      gates = gates_lib.draw(key, state.arch, valid, mode)
      drawn.add(int(gates.index[0]))
      new, metrics = step(state, batch)
      loss, dgate = dense(gates.gate)
      assert_allclose(metrics["arch_loss"].total / 4, loss, rtol=1e-12)
      want = objective_gradient(form, table, gates, state, loss, dgate)
      assert_allclose((state.arch - new.arch)[0], want, rtol=1e-9, atol=1e-12)
    assert len(drawn) > 1


def objective_gradient(form, table, gates, state, loss, dgate):
  """d objective / d alpha by hand, f[k]."""
  alpha, loss = np.asarray(state.arch[0]), float(loss)
  involved = np.asarray(gates.involved[0])
  weights = np.where(involved, np.exp(alpha), 0.0)
  p = weights / weights.sum()
  d_loss = softmax_rule(p, np.asarray(dgate[0]))
  d_cost = softmax_rule(p, table.costs[0])
  penalty = 0.0 if form == "log" else 0.6 / 5000.0 * d_cost
  if form == "target":
    return d_loss + penalty
  softmax = np.exp(alpha) / np.exp(alpha).sum()
  cost = table.fixed + softmax @ table.costs[0]
  ratio = np.log(cost) / np.log(1000.0)
  d_ratio = d_cost / cost / np.log(1000.0)
  product = 0.7 * (ratio**0.3 * d_loss + loss * 0.3 * ratio**-0.7 * d_ratio)
  return product + penalty


def test_every_step_runs_eagerly(quick_compilation):
  space = space_of(
    image_size=2,
    widths=(8,),
    depths=(1,),
    strides=(1,),
    candidates=("conv_k1", "zero"),
  )
  valid, module = gates_lib.valid_candidates(space), build(space)
  variables = init(module, jax.random.key(0))
  state = search_state(jax.random.key(1), variables, valid, TX, ARCH_TX, 0.0, 0)
  batch = batch_of(0, (2, 2))
  with jax.disable_jit():
    state, _ = weight_step_of(module, valid)(state, batch)
    state, _ = arch_step_of(module, valid)(state, batch)
    network = space.choose(gates_lib.most_probable(state.arch, valid).tolist())
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    own = train_state(jax.random.key(0), inherit(space, variables, network), TX)
    own, metrics = train_step(
      own,
      batch,
      module=build(network),
      tx=TX,
      label_smoothing=0.1,
      ema_decay=0.0,
      drop_rate=None,
      grad_accum=1,
    )
    evaluated = eval_step(own.ema, batch, module=build(network))
  jax.tree.map(assert_array_equal, own.ema["params"], own.params)
  assert metrics.keys() == evaluated.keys()
  assert np.isfinite(evaluated["loss"].total)
