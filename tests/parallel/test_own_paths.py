"""A path for every device: means over devices, and their expectation."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.testing import assert_allclose, assert_array_equal

from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas.arch_step import arch_gradients, arch_step
from proxyless_jax.nas.state import ARCH_STREAM, WEIGHT_STREAM
from proxyless_jax.nas.weight_step import (
  Path,
  mean_over_drawers,
  path_gradients,
  weight_step,
)
from proxyless_jax.nn import build
from proxyless_jax.nn.supernet.rows import drawn_rows, get_path
from proxyless_jax.parallel.collectives import PATH, over_devices
from proxyless_jax.parallel.mesh import jit_step, place, to_devices

close = functools.partial(assert_allclose, rtol=1e-4, atol=1e-6)


def keys_of(state, stream):
  """Of the eight devices, in the state's next step."""
  key = state.step_key(stream)
  return [jax.random.fold_in(key, device) for device in range(8)]


def full_batch(search):
  """Without padding, of which a device could have nothing else."""
  return {**search.batch(0), "mask": np.ones(16, np.float32)}


def part(batch, device):
  """The device's share of a batch."""
  return jax.tree.map(lambda a: np.split(a, 8)[device], batch)


def test_means_over_those_that_drew_a_row(mesh):
  rng = np.random.default_rng(0)
  index = rng.integers(3, size=(8, 2))
  rows = rng.standard_normal((8, 2, 1, 5)).astype(np.float32)
  rest = rng.standard_normal((8, 4)).astype(np.float32)

  def share(_, own):
    drawn = {"bank": jax.nn.one_hot(own["index"][0], 3, dtype=bool)}
    rows = jnp.where(drawn["bank"][..., None], own["rows"][0], jnp.nan)
    tree = {"bank": rows, "rest": {"x": own["rest"][0]}}
    return mean_over_drawers(tree, drawn)

  shares = to_devices({"index": index, "rows": rows, "rest": rest}, mesh)
  got = jax.jit(over_devices(share, mesh, PATH))(None, shares)
  close(got["rest"]["x"], rest.mean(0))
  for edge in range(2):
    for candidate in range(3):
      drew = index[:, edge] == candidate
      want = rows[drew, edge, 0].mean(0) if drew.any() else np.zeros(5)
      close(got["bank"][edge, candidate], want)


def test_architecture_moves_by_the_mean_of_what_devices_see(search, mesh):
  state, batch = search.state(), full_batch(search)
  fixed = dict(search.arch, mode="full", grad_accum=1)
  step = functools.partial(arch_step, **fixed, mesh=mesh, path_per_device=True)
  tx = fixed.pop("tx")
  variables = {"params": state.params, "batch_stats": state.batch_stats}
  alone = jax.jit(functools.partial(arch_gradients, **fixed))
  grads = [
    alone(state.arch, variables, state.multipliers, key, part(batch, device))[0]
    for device, key in enumerate(keys_of(state, ARCH_STREAM))
  ]
  assert len({np.asarray(g).tobytes() for g in grads}) == 8
  updates, _ = tx.update(
    jnp.mean(jnp.stack(grads), 0),
    state.arch_opt_state,
    state.arch,
    drawn=True,
    involved=True,
  )
  want = state.arch + updates
  new, metrics = jit_step(step, mesh)(
    place(state, mesh), to_devices(batch, mesh)
  )
  assert_allclose(new.arch, want, rtol=1e-3, atol=1e-5)
  assert metrics["arch_loss"].count == batch["mask"].sum()


def test_pairs_keep_the_probability_of_what_no_device_involved(search, mesh):
  state = search.state()
  state = state.replace(arch=state.arch.at[:, 0].add(4.0))
  before = np.asarray(gates_lib.probabilities(state.arch, search.valid))
  involved = np.zeros(search.valid.shape, bool)
  for key in keys_of(state, ARCH_STREAM):
    draw = gates_lib.draw(key, state.arch, search.valid, "two")
    involved |= np.asarray(draw.involved)
  assert not involved[search.valid].all()
  settings = dict(search.arch, mode="two", grad_accum=1)
  step = functools.partial(
    arch_step, **settings, mesh=mesh, path_per_device=True
  )
  new, _ = jit_step(step, mesh)(
    place(state, mesh), to_devices(full_batch(search), mesh)
  )
  after = np.asarray(gates_lib.probabilities(new.arch, search.valid))
  assert_allclose(after[~involved], before[~involved], rtol=1e-5)
  assert np.abs(after - before)[involved].max() > 1e-4


def test_weights_move_by_the_mean_over_their_drawers(search, mesh):
  state, batch = search.state(), full_batch(search)
  space = search.space
  alone = jax.jit(
    functools.partial(
      path_gradients, module=search.module, label_smoothing=0.1, grad_accum=1
    )
  )
  name = space.edges[0].name  # All edges are alike: of one bank.
  shape = np.asarray(state.params[name]).shape
  total, count, heads = np.zeros(shape), np.zeros(shape[:2]), []
  for device, key in enumerate(keys_of(state, WEIGHT_STREAM)):
    gates = gates_lib.draw(key, state.arch, search.valid, "full")
    drawn = drawn_rows(space, gates.index)
    path = Path(get_path(state.params, drawn), drawn, gates)
    again = jax.random.fold_in(key, 1)
    grads, _, _ = alone(path, state.batch_stats, again, part(batch, device))
    for edge, candidate in enumerate(np.asarray(gates.index)):
      total[edge, candidate] += grads[name][edge, 0]
      count[edge, candidate] += 1
    heads.append(jax.tree.leaves(grads[space.layers[-1].name])[0])
  settings = dict(search.weight, grad_accum=1)
  # Plain gradient descent: the change is the gradient.
  settings["tx"] = optax.sgd(1.0)
  plain = state.replace(opt_state=settings["tx"].init(state.params))
  step = functools.partial(
    weight_step, **settings, mesh=mesh, path_per_device=True
  )
  new, _ = jit_step(step, mesh)(place(plain, mesh), to_devices(batch, mesh))
  moved = np.asarray(state.params[name]) - np.asarray(new.params[name])
  want = total / np.maximum(count, 1)[..., None]
  assert_allclose(moved, want, rtol=1e-3, atol=1e-5)
  off = count == 0
  assert off.any()
  assert_array_equal(
    np.asarray(new.params[name])[off], np.asarray(state.params[name])[off]
  )
  assert_array_equal(
    np.asarray(new.batch_stats[name])[off],
    np.asarray(state.batch_stats[name])[off],
  )
  head = space.layers[-1].name
  before, after = (
    np.asarray(jax.tree.leaves(s.params[head])[0]) for s in (state, new)
  )
  assert_allclose(before - after, np.mean(heads, 0), rtol=1e-3, atol=1e-5)


def test_the_gradient_of_alpha_is_unbiased(search):
  """Its mean over draws is the expectation over all paths, enumerated."""
  state, batch = search.state(), full_batch(search)
  valid = search.valid
  fixed = dict(search.arch, module=build(search.space), mode="full")
  fixed.pop("tx")
  alone = jax.jit(functools.partial(arch_gradients, **fixed, grad_accum=1))
  variables = {"params": state.params, "batch_stats": state.batch_stats}
  keys = jax.vmap(
    lambda i: jnp.stack(keys_of(state.replace(step=i), ARCH_STREAM))
  )(jnp.arange(500)).reshape(-1)
  drawn = jax.vmap(
    lambda key: gates_lib.draw(key, state.arch, valid, "full").index
  )(keys)
  paths, which = np.unique(np.asarray(drawn), axis=0, return_inverse=True)
  assert len(paths) == 4**3
  grads = np.stack(
    [
      alone(
        state.arch,
        variables,
        state.multipliers,
        keys[np.argmax(which == i)],
        batch,
      )[0]
      for i in range(len(paths))
    ]
  )
  weight = np.exp(gates_lib.log_probability(state.arch, valid, paths))
  assert_allclose(weight.sum(), 1.0, rtol=1e-5)
  exact = np.tensordot(weight, grads, 1)
  seen = grads[which.reshape(-1)]
  error = seen.std(0) / np.sqrt(len(seen))
  assert (np.abs(seen.mean(0) - exact) < 4.5 * error + 1e-8).all()
  # Devices of one step draw independently: the variance of their mean is an
  # eighth of one's.
  means = seen.reshape(-1, 8, *exact.shape).mean(1)
  moved = seen.std(0) > 1e-6
  ratio = (means.var(0) / np.maximum(seen.var(0), 1e-12))[moved]
  assert_allclose(ratio, 1 / 8, rtol=0.35)


def test_the_mean_over_drawers_is_unbiased():
  """By enumeration of all joint draws of three devices, in float64.

  Given that some device drew a candidate, the mean over those that did is in
  expectation the mean of what the devices see, each given that it drew it.
  """
  rng = np.random.default_rng(0)
  paths = [(i, j) for i in range(2) for j in range(3)]
  chance = np.outer([0.3, 0.7], [0.2, 0.5, 0.3]).ravel()
  seen = rng.standard_normal((3, len(paths)))  # By device and path.
  for candidate in range(2):  # Of the first edge.
    drew = np.array([path[0] == candidate for path in paths])
    want = np.mean((seen * chance * drew).sum(1) / (chance * drew).sum())
    total, weight = 0.0, 0.0
    for joint in itertools.product(range(len(paths)), repeat=3):
      drawers = [d for d, path in enumerate(joint) if drew[path]]
      if drawers:
        p = np.prod(chance[list(joint)])
        total += p * np.mean([seen[d, joint[d]] for d in drawers])
        weight += p
    assert_allclose(total / weight, want, rtol=1e-12)
