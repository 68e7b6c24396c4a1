"""The mixed edge against all candidates run densely, in float64."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nn import build, inherit, init, make
from proxyless_jax.nn.supernet.rows import drawn_rows
from tests.spaces import small_space


@pytest.fixture(autouse=True, scope="module")
def float64():
  with jax.enable_x64(True):
    yield


pytestmark = pytest.mark.usefixtures("quick_compilation_of_module")


@pytest.fixture(scope="module")
def space():
  return small_space(
    image_size=(6, 9),
    widths=(8, 16),
    depths=(1, 3),
    strides=(1, 2),
    candidates=("mbconv4_k3", "mbconv2_k5", "zero"),
  )


@pytest.fixture(scope="module")
def problem(space):
  """Module, float64 variables, architecture parameters, images."""
  module = build(space, dtype=jnp.float64)
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda leaf: jnp.asarray(
      leaf + 0.1 * np.abs(rng.standard_normal(leaf.shape))
    ),
    init(module, jax.random.key(0)),
  )
  shape = gates_lib.valid_candidates(space).shape
  arch = jnp.asarray(rng.standard_normal(shape))
  images = jnp.asarray(rng.standard_normal((4, 6, 9, 2)))
  return module, variables, arch, images


def draw(key, arch, valid, two):
  """A draw in mode `two` or `full`: one program for both."""
  both = (gates_lib.draw(key, arch, valid, mode) for mode in ("two", "full"))
  return jax.tree.map(functools.partial(jnp.where, two), *both)


@pytest.fixture(scope="module")
def gradients(space, problem):
  """Value and gradients, in mode `two` or `full`; and of all run densely."""
  module, variables, _, _ = problem
  valid = gates_lib.valid_candidates(space)

  def drawn_loss(params, arch, images, key, two):
    logits, _ = module.apply(
      {**variables, "params": params},
      images,
      train=True,
      gates=draw(key, arch, valid, two),
      mutable=["batch_stats"],
    )
    return loss_of(logits)

  def dense_loss(params, gate, images):
    return loss_of(
      dense_logits(module, {**variables, "params": params}, images, gate)
    )

  return (
    jax.jit(jax.value_and_grad(loss, (0, 1, 2)))
    for loss in (drawn_loss, dense_loss)
  )


def dense_logits(module, variables, images, gate, train=True):
  """sum_j gate_j o_j(x) on every edge, all candidates run."""
  network = module.network
  searched = {edge.name: i for i, edge in enumerate(network.edges)}
  x = images
  for edge in network.layers:
    y = 0.0
    for j, op in enumerate(edge.ops):
      weight = gate[searched[edge.name], j] if edge.name in searched else 1.0
      y += weight * run_candidate(module, variables, edge, op, x, train)
    x = x + y if edge.shortcut else y
  return x


def run_candidate(module, variables, edge, op, x, train):
  own = inherit_one(module.network, variables, edge, op)
  candidate = make(op, edge, name=None, bn_momentum=0.9, dropout=0.0)
  return candidate.apply(own, x, train, mutable=["batch_stats"])[0]


def inherit_one(network, variables, edge, op):
  """{'params', 'batch_stats'} of one candidate of one edge."""
  choices = [op.name if e == edge else 0 for e in network.edges]
  tree = inherit(network, variables, network.choose(choices))
  return {
    name: t.get(edge.name, {}).get(op.name, {}) for name, t in tree.items()
  }


def loss_of(logits):
  return jnp.sum(
    jnp.sin(logits) * jnp.arange(1.0, logits.size + 1).reshape(logits.shape)
  )


def test_gradients_equal_dense_enumeration(space, problem, gradients):
  _, variables, arch, images = problem
  valid = gates_lib.valid_candidates(space)
  of_drawn, of_dense = gradients
  params = variables["params"]
  for mode in gates_lib.MODES:
    zero_drawn = set()
    for key in jax.random.split(jax.random.key(5), 10):
      drawn = gates_lib.draw(key, arch, valid, mode)
      value, got = of_drawn(params, arch, images, key, mode == "two")
      want_value, want = of_dense(params, drawn.gate, images)
      assert_allclose(value, want_value, rtol=1e-10)
      jax.tree.map(close, got[0], want[0])
      close(got[2], want[2])
      close(got[1], published_rule(arch, drawn.involved, want[1]))
      names = space.choose(drawn.index.tolist()).edges
      zero_drawn.add(any(edge.op.name == "zero" for edge in names))
    assert zero_drawn == {True, False}


close = functools.partial(assert_allclose, rtol=1e-7, atol=1e-9)


def published_rule(arch, involved, dgate):
  """sum_j dL/dg_j p_j (delta_ij - p_i), by loops, p over the involved."""
  arch, dgate = np.asarray(arch), np.asarray(dgate)
  dalpha = np.zeros_like(arch)
  for e in range(arch.shape[0]):
    taking_part = np.flatnonzero(involved[e])
    p = np.exp(arch[e]) / np.exp(arch[e][taking_part]).sum()
    for i in taking_part:
      for j in taking_part:
        dalpha[e, i] += dgate[e, j] * p[j] * ((i == j) - p[i])
  return dalpha


def test_off_the_path_nothing_has_a_gradient_and_statistics_stay(
  space, problem
):
  module, variables, arch, images = problem
  valid = gates_lib.valid_candidates(space)
  gates = gates_lib.draw(jax.random.key(0), arch, valid, "full")
  drawn = drawn_rows(space, gates.index)

  def loss(params):
    logits, new = module.apply(
      {**variables, "params": params},
      images,
      train=True,
      gates=jax.lax.stop_gradient(gates),
      mutable=["batch_stats"],
    )
    return loss_of(logits), new["batch_stats"]

  of_params = jax.jit(jax.grad(loss, has_aux=True))
  grads, stats = of_params(variables["params"])
  for name, on_path in drawn.items():
    count = grads[name].shape[1]
    off = np.arange(count) != np.asarray(on_path)[:, None]
    assert not np.asarray(grads[name])[off].any()
    old = np.asarray(variables["batch_stats"][name])
    new = np.asarray(stats[name])
    assert (old[off] == new[off]).all()
    assert (old[~off] != new[~off]).any()


def test_a_drawn_path_is_the_plain_network(space, problem):
  module, variables, _, images = problem
  valid = gates_lib.valid_candidates(space)
  index = jnp.array([0, 1, 2, 1])
  network = space.choose(index.tolist())
  plain = build(network, dtype=jnp.float64)
  own = inherit(space, variables, network)
  gates = gates_lib.path(index, valid)
  for train in (False, True):
    apply = functools.partial(
      nn.Module.apply, train=train, mutable=["batch_stats"]
    )
    drawn, new = jax.jit(functools.partial(apply, module))(
      variables, images, gates=gates
    )
    logits, plain_new = jax.jit(functools.partial(apply, plain))(own, images)
    assert_allclose(drawn, logits, rtol=1e-12)
    both = {**variables, **new}
    inherited = inherit(space, both, network)["batch_stats"]
    jax.tree.map(close, inherited, plain_new["batch_stats"])


def test_one_trace_and_no_unasked_gradients(space, problem):
  """A weight step compiles no gate gradients, an architecture step no d w."""
  module, variables, arch, images = problem
  valid = gates_lib.valid_candidates(space)

  def loss(params, arch):
    gates = gates_lib.draw(jax.random.key(0), arch, valid, "full")
    logits, _ = module.apply(
      {**variables, "params": params},
      images,
      train=True,
      gates=gates,
      mutable=["batch_stats"],
    )
    return loss_of(logits)

  sizes = [
    len(
      jax.jit(jax.grad(loss, which)).lower(variables["params"], arch).as_text()
    )
    for which in (0, 1, (0, 1))
  ]
  assert max(sizes[:2]) < sizes[2]


def test_a_space_needs_gates_and_images_of_its_size(space, problem):
  module, variables, _, images = problem
  with pytest.raises(ValueError, match="pass `gates`"):
    module.apply(variables, images, train=False)
  with pytest.raises(ValueError, match=r"\[b, 6, 9, 2\]"):
    module.apply(variables, images.swapaxes(1, 2), train=False)
