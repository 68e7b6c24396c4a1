"""Bits off the drawn path, probabilities off the pair, and schedules."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from proxyless_jax.nas import transforms
from proxyless_jax.nas.optimizers import arch_optimizer, search_schedule
from proxyless_jax.training.optimizers import train_schedule, weight_optimizer

SHAPES = {"edge0": {"kernel": (4, 3), "bias": (3,)}, "edge1": {"kernel": (5,)}}
LABELS = {"edge0": {"kernel": "k", "bias": "b"}, "edge1": {"kernel": "k"}}


def _random(key, dtype=jnp.float32):
  leaves, treedef = jax.tree.flatten(
    SHAPES, is_leaf=lambda x: isinstance(x, tuple)
  )
  keys = jax.random.split(key, len(leaves))
  return treedef.unflatten(
    [jax.random.normal(k, s, dtype) for k, s in zip(keys, leaves)]
  )


def _matrices(params):
  return jax.tree.map(lambda p: p.ndim > 1, params)


INNERS = {
  "sgd": optax.sgd(0.1),
  "momentum": optax.sgd(0.1, momentum=0.9),
  "nesterov": optax.sgd(optax.cosine_decay_schedule(0.1, 9), 0.9, True),
  "adam_b1_0": optax.adam(0.1, b1=0.0),
  "adamw": optax.adamw(0.1, weight_decay=0.3, mask=_matrices),
  "rmsprop": optax.rmsprop(0.1, momentum=0.9, centered=True),
  "adafactor": optax.adafactor(0.1, min_dim_size_to_factor=2),
  "trace": optax.chain(optax.add_decayed_weights(0.3), optax.trace(0.9)),
  "clip": optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1)),
  "masked": optax.masked(optax.adam(0.1), _matrices),
  "masked_prefix": optax.masked(
    optax.adam(0.1), {"edge0": True, "edge1": False}
  ),
  "partition": optax.partition(
    {"k": optax.adamw(0.1), "b": optax.sgd(0.1, momentum=0.9)}, LABELS
  ),
  "partition_map": optax.partition(
    {True: optax.adamw(0.1), False: optax.set_to_zero()}, _matrices
  ),
  "multi_steps": optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(),
  "inject": optax.inject_hyperparams(optax.sgd)(
    optax.linear_schedule(0.1, 0.0, 9), momentum=0.9
  ),
  "if_finite": optax.apply_if_finite(optax.sgd(0.1, momentum=0.9), 1),
  "lion": optax.lion(0.1, weight_decay=0.3),
  "kernels_only": weight_optimizer(
    0.1, momentum=0.9, nesterov=True, weight_decay=4e-5, kernels_only=True
  ),
}


def _bits(x):
  return np.asarray(x).tobytes()


def _leaves(tree):
  return [
    (jax.tree_util.keystr(p), x)
    for p, x in jax.tree_util.tree_leaves_with_path(tree)
  ]


def _drawn(path, selected):
  """Whether a leaf of a state is on the path; None where it is global."""
  for name, m in _leaves(selected):
    if path.endswith(name):
      return bool(m)
  return None


@pytest.mark.parametrize("name", INNERS)
def test_random_paths_bit_for_bit(name):
  """Each step is the inner step on the path, and no step at all off it."""
  inner, tx = INNERS[name], transforms.drawn_only(INNERS[name])
  rng = np.random.default_rng(0)
  params = _random(jax.random.key(0))
  state = inner.init(params)
  for step in range(5):
    selected = jax.tree.map(lambda _: bool(rng.integers(2)), params)
    grads = _random(jax.random.key(step + 1))
    zeroed = jax.tree.map(lambda m, g: g * m, selected, grads)
    garbage = jax.tree.map(
      lambda m, g: g if m else g * jnp.nan, selected, grads
    )
    want, want_state = inner.update(zeroed, state, params)
    updates, new_state = tx.update(garbage, state, params, drawn=selected)
    assert jax.tree.structure(new_state) == jax.tree.structure(state)
    for (path, new), (_, old), (_, moved) in zip(
      _leaves(new_state), _leaves(state), _leaves(want_state)
    ):
      expected = old if _drawn(path, selected) is False else moved
      assert _bits(new) == _bits(expected), (step, path)
    new_params = optax.apply_updates(params, updates)
    for (path, new), (_, old), (_, update) in zip(
      _leaves(new_params), _leaves(params), _leaves(want)
    ):
      expected = old + update if _drawn(path, selected) else old
      assert _bits(new) == _bits(expected), (step, path)
    params, state = new_params, new_state


@pytest.mark.parametrize("name", ["nesterov", "adamw", "clip", "rmsprop"])
def test_constant_path_is_inner_on_the_path_alone(name):
  # A callable mask, for a tree of labels would not fit the smaller tree.
  inner, tx = INNERS[name], transforms.drawn_only(INNERS[name])
  params = _random(jax.random.key(0))
  path = {"edge0": params["edge0"]}
  state, path_state = tx.init(params), inner.init(path)
  for step in range(4):
    grads = _random(jax.random.key(step + 1))
    updates, state = tx.update(
      grads, state, params, drawn={"edge0": True, "edge1": False}
    )
    want, path_state = inner.update({"edge0": grads["edge0"]}, path_state, path)
    params = optax.apply_updates(params, updates)
    path = optax.apply_updates(path, want)
    for got, expected in zip(
      jax.tree.leaves(params["edge0"]), jax.tree.leaves(path)
    ):
      assert _bits(got) == _bits(expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ["nesterov", "adamw", "kernels_only"])
def test_jit_donated_keeps_awkward_values(name, dtype):
  """Signed zeros, NaN, infinities and NaN momentum survive off the path."""
  tx = transforms.drawn_only(INNERS[name])
  awkward = jnp.array([-0.0, 0.0, jnp.nan, -jnp.inf, 65504], dtype)
  params = {"edge0": jnp.ones((2, 2), dtype), "edge1": awkward}
  state = tx.init(params)
  state = optax.tree_map_params(tx, lambda s: s.at[0].set(jnp.nan), state)
  before = _leaves((params, state))
  before = [(p, _bits(x), x.dtype) for p, x in before if p.endswith("'edge1']")]
  assert len(before) >= 2

  @jax.jit
  def plain(params, state, drawn):
    updates, state = tx.update(params, state, params, drawn=drawn)
    return optax.apply_updates(params, updates), state

  step = jax.jit(plain, donate_argnums=(0, 1))
  drawn = {"edge0": jnp.array(True), "edge1": jnp.array(False)}
  for _ in range(3):
    params, state = step(params, state, drawn)
  after = _leaves((params, state))
  assert before == [
    (p, _bits(x), x.dtype) for p, x in after if p.endswith("'edge1']")
  ]


def test_one_trace_serves_every_path_in_place():
  tx = transforms.drawn_only(INNERS["nesterov"])
  params = {"edge0": jnp.ones((64, 64)), "edge1": jnp.ones((64, 64))}
  state, traces = tx.init(params), []

  def step(params, state, drawn):
    traces.append(drawn)
    updates, state = tx.update(params, state, params, drawn=drawn)
    return optax.apply_updates(params, updates), state

  jitted = jax.jit(step, donate_argnums=(0, 1))
  for one in (True, False):
    drawn = {"edge0": jnp.array(one), "edge1": jnp.array(not one)}
    params, state = jitted(params, state, drawn)
  assert len(traces) == 1
  memory = jitted.lower(params, state, drawn).compile().memory_analysis()
  # Parameters and momentum, two leaves of 64x64 each, take donated buffers.
  assert memory.alias_size_in_bytes >= 4 * 64 * 64 * 4


def test_everything_drawn_is_inner():
  inner, tx = INNERS["adamw"], transforms.drawn_only(INNERS["adamw"])
  params, grads = _random(jax.random.key(0)), _random(jax.random.key(1))
  state = inner.init(params)
  want = inner.update(grads, state, params)
  for drawn in (True, jnp.array(True)):
    got = tx.update(grads, state, params, drawn=drawn)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), got, want))


def test_global_count_advances_off_the_path():
  tx = transforms.drawn_only(optax.adam(0.1))
  params = _random(jax.random.key(0))
  _, state = tx.update(params, tx.init(params), params, drawn=False)
  assert state[0].count == 1
  assert all((m == 0).all() for m in jax.tree.leaves(state[0].mu))


def test_global_norm_is_that_of_the_path():
  tx = transforms.drawn_only(optax.clip_by_global_norm(1.0))
  params = {"a": jnp.zeros(2), "b": jnp.zeros(2)}
  grads = {"a": jnp.array([3.0, 4.0]), "b": jnp.full(2, jnp.inf)}
  updates, _ = tx.update(grads, tx.init(params), drawn={"a": True, "b": False})
  np.testing.assert_allclose(updates["a"], [0.6, 0.8], rtol=1e-6)
  assert (updates["b"] == 0).all() and jnp.signbit(updates["b"]).all()


def test_arrays_select_rows():
  """A stacked parameter [edge, ...] takes bools of shape [edge, 1]."""
  tx = transforms.drawn_only(optax.sgd(1.0, momentum=0.9))
  params = jnp.zeros((2, 3))
  drawn = jnp.array([[True], [False]])
  updates, state = tx.update(
    jnp.ones((2, 3)), tx.init(params), params, drawn=drawn
  )
  np.testing.assert_array_equal(updates, [[-1] * 3, [0] * 3])
  np.testing.assert_array_equal(state[0].trace, [[1] * 3, [0] * 3])


def test_state_keeps_its_dtype():
  """Gradients of a higher precision would widen the momentum otherwise."""
  tx = transforms.drawn_only(optax.sgd(0.1, momentum=0.9))
  params = jnp.ones(3, jnp.bfloat16)
  drawn = jnp.array(True)
  _, state = tx.update(jnp.ones(3), tx.init(params), params, drawn=drawn)
  assert state[0].trace.dtype == jnp.bfloat16


def test_composes_as_an_inner_transform():
  """optax can recognise the state of drawn_only, and hand it extra args."""
  tx = optax.chain(transforms.drawn_only(optax.adam(0.1)), optax.scale(2.0))
  params = _random(jax.random.key(0))
  marked = optax.tree_map_params(tx, lambda _: "param", tx.init(params))
  assert jax.tree.leaves(marked).count("param") == 6
  updates, _ = tx.update(params, tx.init(params), params, drawn=True)
  assert (jnp.abs(updates["edge1"]["kernel"]) > 0.1).all()

  polyak = transforms.drawn_only(optax.polyak_sgd())
  updates, _ = polyak.update(
    params, polyak.init(params), params, drawn=False, value=1.0
  )
  assert (updates["edge1"]["kernel"] == 0).all()


@pytest.mark.parametrize(
  "drawn, message",
  [
    ({"edge0": True}, "drawn is .* expected a tree prefix"),
    ({"edge0": True, "edge1": 1}, r"drawn\['edge1'\]\['kernel'\] is int"),
    (jnp.ones((2, 1), bool), r"shape \(2, 1\), expected one that broadcasts"),
  ],
)
def test_drawn_is_validated(drawn, message):
  tx = transforms.drawn_only(optax.sgd(0.1))
  params = _random(jax.random.key(0))
  with pytest.raises(ValueError, match=message):
    tx.update(params, tx.init(params), params, drawn=drawn)


@pytest.mark.parametrize(
  "inner",
  [
    optax.flatten(optax.adam(0.1)),
    optax.partition(
      {"k": optax.sgd(0.1)}, lambda p: dict.fromkeys(p.keys(), "k")
    ),
  ],
  ids=["flatten", "labels"],
)
def test_unrecognisable_state_is_an_error(inner):
  tx = transforms.drawn_only(inner)
  params = _random(jax.random.key(0))
  with pytest.raises(ValueError, match="inner keeps state unlike"):
    tx.update(params, tx.init(params), params, drawn=True)


def test_arrays_over_factored_state_are_an_error():
  tx = transforms.drawn_only(optax.adafactor(0.1, min_dim_size_to_factor=2))
  params = jnp.ones((4, 3))
  with pytest.raises(ValueError, match="for the state of inner"):
    tx.update(
      params, tx.init(params), params, drawn=jnp.ones((4, 3), dtype=bool)
    )


def _pairs(rng, edges, candidates):
  selected = np.zeros((edges, candidates), bool)
  for row in selected:
    row[rng.choice(candidates, 2, replace=False)] = True
  return selected


def _reference_shift(logits, update, selected):
  """The published rule, row by row: new -= log(Σ exp new / Σ exp old)."""
  after = np.array(logits, np.float64)
  for row, step, pair in zip(after, np.asarray(update, np.float64), selected):
    old = row[pair]
    new = old + step[pair]
    row[pair] = new - math.log(np.exp(new).sum() / np.exp(old).sum())
  return after


@pytest.mark.parametrize(
  "dtype, tolerance", [("float32", 1e-6), ("float64", 1e-12)]
)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 3.0])
def test_pair_shift_keeps_other_probabilities(dtype, tolerance, scale):
  with jax.enable_x64(dtype == "float64"):
    rng = np.random.default_rng(0)
    tx = transforms.keep_pair_probability()
    logits = jnp.asarray(rng.normal(size=(21, 7)), dtype)
    first = jax.nn.softmax(logits)
    for _ in range(5):
      selected = _pairs(rng, 21, 7)
      update = jnp.asarray(rng.normal(size=(21, 7)) * scale, dtype)
      shifted, _ = tx.update(update, tx.init(logits), logits, involved=selected)
      after = optax.apply_updates(logits, shifted)
      assert after.dtype == dtype
      before, p = jax.nn.softmax(logits), jax.nn.softmax(after)
      np.testing.assert_allclose(
        p[~selected], before[~selected], atol=tolerance
      )
      np.testing.assert_array_equal(after[~selected], logits[~selected])
      want = _reference_shift(logits, update, selected)
      np.testing.assert_allclose(after, want, rtol=0, atol=10 * tolerance)
      logits = after
    assert float(jnp.abs(jax.nn.softmax(logits) - first).max()) > scale / 100


def test_pair_shift_is_stable_for_large_logits_and_updates():
  tx = transforms.keep_pair_probability()
  logits = jnp.array([[300.0, 1.0, 299.0], [-300.0, 0.0, -299.0]])
  update = jnp.array([[-200.0, 5.0, 200.0], [1000.0, jnp.nan, -1000.0]])
  selected = jnp.array([[True, False, True]] * 2)
  shifted, _ = tx.update(update, tx.init(logits), logits, involved=selected)
  # The whole mass of each pair goes to one of the two.
  both = math.log1p(math.exp(-1))
  np.testing.assert_allclose(logits[0, 2] + shifted[0, 2], 300 + both)
  np.testing.assert_allclose(logits[1, 0] + shifted[1, 0], -299 + both)
  assert (shifted[:, 1] == 0).all() and jnp.signbit(shifted[:, 1]).all()


def test_rows_without_a_pair_full_rows_and_padding():
  tx = transforms.keep_pair_probability()
  logits = jnp.array([[1.0, -0.0, -jnp.inf]] * 4)
  update = jnp.array([[0.5, 0.25, jnp.nan]] * 4).at[1, 2].set(0.0)
  selected = jnp.array(
    [
      [False, False, False],  # not in this step
      [True, True, True],  # the full gradient
      [True, True, False],  # the last entry is padding
      [True, False, False],  # a pair of one cannot move
    ]
  )
  with jax.debug_nans(True):
    # Not under jit: there debug_nans would see no more than the outputs.
    shifted, _ = tx.update(
      update.at[:, 2].set(0.0), tx.init(logits), logits, involved=selected
    )
  again, _ = tx.update(update, tx.init(logits), logits, involved=selected)
  np.testing.assert_allclose(shifted, again, atol=1e-7)
  assert (shifted[0] == 0).all() and jnp.signbit(shifted[0]).all()
  np.testing.assert_array_equal(shifted[1], [0.5, 0.25, 0.0])
  plain = jax.nn.softmax(logits[2] + jnp.array([0.5, 0.25, 0.0]))
  np.testing.assert_allclose(
    jax.nn.softmax(logits[2] + shifted[2]), plain, atol=1e-6
  )
  np.testing.assert_allclose(shifted[3], 0.0, atol=1e-7)
  after = optax.apply_updates(logits, shifted)
  assert jnp.signbit(after[jnp.array([0, 3]), 1]).all()  # -0.0 is still -0.0


def test_pair_shift_is_validated():
  tx = transforms.keep_pair_probability()
  logits = jnp.zeros((2, 3))
  with pytest.raises(ValueError, match="params is None"):
    tx.update(logits, tx.init(logits), involved=True)
  with pytest.raises(ValueError, match=r"involved has shape \(3, 2\)"):
    tx.update(
      logits, tx.init(logits), logits, involved=jnp.ones((3, 2), dtype=bool)
    )


def test_arch_optimizer_moves_the_pair_alone():
  """Groups of edges, random pairs, Adam with β1 = 0 against numpy."""
  rng = np.random.default_rng(1)
  tx = arch_optimizer(1e-3, b1=0.0, b2=0.999, weight_decay=0.0)
  arch = {"six": jnp.zeros((6, 6)), "seven": jnp.zeros((15, 7))}
  arch = jax.tree.map(
    lambda a: jnp.asarray(rng.normal(size=a.shape), jnp.float32), arch
  )
  state = tx.init(arch)
  step = jax.jit(tx.update)
  nu = jax.tree.map(np.zeros_like, arch)
  for count in range(1, 6):
    selected = {k: _pairs(rng, *a.shape) for k, a in arch.items()}
    grads = {k: rng.normal(size=a.shape) for k, a in arch.items()}
    updates, state = step(grads, state, arch, drawn=selected, involved=selected)
    after = optax.apply_updates(arch, updates)
    for k, m in selected.items():
      nu[k] = np.where(m, 0.999 * nu[k] + 0.001 * grads[k] ** 2, nu[k])
      nu_hat = nu[k] / (1 - 0.999**count)
      adam = -1e-3 * grads[k] / (np.sqrt(nu_hat) + 1e-8)
      want = _reference_shift(arch[k], adam, m)
      np.testing.assert_allclose(after[k], want, atol=2e-6)
      np.testing.assert_array_equal(after[k][~m], arch[k][~m])
    np.testing.assert_allclose(
      optax.tree_utils.tree_get(state, "nu")["six"], nu["six"], rtol=1e-5
    )
    arch = after


def test_arch_optimizer_first_step_bound():
  """A logit first involved late takes the step that its docstring states."""
  tx = arch_optimizer(1e-3, b1=0.0, b2=0.99, weight_decay=0.0)
  logits = jnp.zeros((2, 2))
  state = tx.init(logits)
  rows = [jnp.array([[True], [False]])] * 9 + [jnp.array([[False], [True]])]
  for row in rows:
    updates, state = tx.update(
      jnp.ones((2, 2)), state, logits, drawn=row, involved=row
    )
  bound = 1e-3 * math.sqrt((1 - 0.99**10) / (1 - 0.99))
  np.testing.assert_allclose(updates[1], -bound, rtol=1e-4)


def test_arch_optimizer_decay_pulls_to_zero():
  tx = arch_optimizer(0.1, b1=0.0, b2=0.999, weight_decay=0.1)
  logits = jnp.array([[2.0, -3.0]])
  zeros = jnp.zeros_like(logits)
  updates, _ = tx.update(
    zeros, tx.init(logits), logits, drawn=True, involved=True
  )
  np.testing.assert_allclose(updates, [[-0.1, 0.1]], rtol=1e-4)


def test_search_schedule_values():
  rate = search_schedule(0.05, 40, 0.025, 120)
  for step in range(40):
    want = 0.05 * 0.5 * (1 + math.cos(math.pi * step / 40))
    np.testing.assert_allclose(rate(step), want, atol=1e-8)
  for step in range(121):
    want = 0.025 * 0.5 * (1 + math.cos(math.pi * step / 120))
    np.testing.assert_allclose(rate(40 + step), want, atol=1e-8)
  plain = search_schedule(0.05, 0, 0.025, 120)
  np.testing.assert_allclose(plain(jnp.array(0)), 0.025)
  np.testing.assert_allclose(plain(60), 0.0125, rtol=1e-6)


def test_train_schedule_values():
  rate = train_schedule(0.05, 300, 0)
  ramp = train_schedule(0.05, 310, 10)
  for step in range(0, 301, 10):
    want = 0.05 * 0.5 * (1 + math.cos(math.pi * step / 300))
    np.testing.assert_allclose(rate(step), want, atol=1e-8)
    np.testing.assert_allclose(ramp(10 + step), want, atol=1e-8)
  for step in range(10):
    np.testing.assert_allclose(ramp(step), 0.005 * step, atol=1e-8)


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: search_schedule(1, 0, 1, 0), "steps is 0, expected 1"),
    (lambda: search_schedule(1, -1, 1, 9), "warmup_steps is -1"),
    (lambda: train_schedule(1, 0, 0), "steps is 0, expected 1"),
    (lambda: train_schedule(1, 5, 5), "steps is 5, expected 6"),
    (lambda: train_schedule(1, 5, -1), "lr_warmup_steps is -1"),
  ],
)
def test_schedules_are_validated(call, message):
  with pytest.raises(ValueError, match=message):
    call()


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("kernels_only", [False, True])
def test_weight_optimizer_equation(nesterov, kernels_only):
  """g ← g + decay θ; v ← μ v + g; θ ← θ - lr (g + μ v), or lr v."""
  tx = weight_optimizer(
    optax.linear_schedule(0.1, 0.0, 10),
    momentum=0.9,
    nesterov=nesterov,
    weight_decay=0.01,
    kernels_only=kernels_only,
  )
  params = _random(jax.random.key(0))
  state, step = tx.init(params), jax.jit(tx.update)
  want = jax.tree.map(np.float64, params)
  velocity = jax.tree.map(np.zeros_like, want)
  for count in range(4):
    grads = _random(jax.random.key(count + 1))
    updates, state = step(grads, state, params)
    params = optax.apply_updates(params, updates)

    def decayed(p, g):
      return g + 0.01 * p * (p.ndim > 1 or not kernels_only)

    gradient = jax.tree.map(decayed, want, jax.tree.map(np.float64, grads))
    velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradient)
    lr = 0.1 * (1 - count / 10)
    move = (
      jax.tree.map(lambda g, v: g + 0.9 * v, gradient, velocity)
      if nesterov
      else velocity
    )
    want = jax.tree.map(lambda p, m, lr=lr: p - lr * m, want, move)
  for got, expected in zip(jax.tree.leaves(params), jax.tree.leaves(want)):
    np.testing.assert_allclose(got, expected, atol=1e-6)
