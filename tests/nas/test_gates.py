"""Gates: each formula against NumPy, and draws against their probabilities."""

import doctest
import functools
import itertools
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proxyless_jax.nas import gates

# Padding last, one candidate alone, and a row without padding.
VALID = np.array(
  [
    [True, True, True, False],
    [True, False, False, False],
    [True, True, True, True],
    [True, True, False, False],
  ]
)
ARCH = np.array(
  [
    [0.3, -1.0, 0.8, 9.0],
    [0.5, 9.0, 9.0, 9.0],
    [1.2, 0.1, -0.7, 0.4],
    [-0.2, 0.6, 9.0, 9.0],
  ]
)
DRAWS = 20_000


def _softmax(arch=ARCH, valid=VALID):
  probs = np.zeros(arch.shape)
  for e in range(len(arch)):
    total = sum(math.exp(a) for a, m in zip(arch[e], valid[e]) if m)
    for j in np.nonzero(valid[e])[0]:
      probs[e, j] = math.exp(arch[e, j]) / total
  return probs


@functools.cache
def _many(mode):
  """`DRAWS` draws at once, as NumPy arrays."""
  keys = jax.random.split(jax.random.key(0), DRAWS)
  arch, valid = jnp.asarray(ARCH, jnp.float32), jnp.asarray(VALID)
  draws = jax.jit(jax.vmap(lambda key: gates.draw(key, arch, valid, mode)))(
    keys
  )
  return jax.tree.map(np.asarray, draws)


def _assert_frequencies(counts, probs):
  """Pearson's chi-square within six of its standard deviations."""
  counts, probs = np.ravel(counts), np.ravel(probs)
  assert not counts[probs == 0].any()
  expected = probs[probs > 0] * counts.sum()
  freedom = len(expected) - 1
  chi_square = ((counts[probs > 0] - expected) ** 2 / expected).sum()
  assert chi_square <= freedom + 6 * math.sqrt(2 * freedom)


def _pair_probabilities(p):
  """{pair: probability} of two draws from p without replacement."""
  pairs = {}
  for i, j in itertools.permutations(np.nonzero(p)[0].tolist(), 2):
    pair = frozenset((i, j))
    pairs[pair] = pairs.get(pair, 0.0) + p[i] * p[j] / (1.0 - p[i])
  return pairs


def test_doctest():
  result = doctest.testmod(gates)
  assert result.attempted > 3
  assert result.failed == 0


def test_valid_candidates():
  sizes = (3, 1, 4, 2)
  edges = [types.SimpleNamespace(ops=range(size)) for size in sizes]
  network = types.SimpleNamespace(edges=edges)
  np.testing.assert_array_equal(gates.valid_candidates(network), VALID)
  empty = gates.valid_candidates(types.SimpleNamespace(edges=[]))
  assert empty.shape == (0, 0)


def test_init_arch():
  valid = np.ones((400, 5), bool)
  valid[:, 3:] = False
  arch = np.asarray(gates.init_arch(jax.random.key(0), valid))
  assert arch.dtype == np.float32
  assert not arch[:, 3:].any()
  assert arch[:, :3].std() == pytest.approx(1e-3, rel=0.1)
  wide = gates.init_arch(jax.random.key(0), valid, scale=2e-3)
  np.testing.assert_allclose(wide, 2 * arch, rtol=1e-6)


def test_probabilities_entropy_and_log_probability():
  with jax.enable_x64(True):
    arch, p = jnp.asarray(ARCH), _softmax()
    np.testing.assert_allclose(gates.probabilities(arch, VALID), p, rtol=1e-14)
    entropy = [-sum(x * math.log(x) for x in row if x) for row in p]
    np.testing.assert_allclose(gates.entropy(arch, VALID), entropy, atol=1e-15)
    for index in itertools.product(*(np.nonzero(row)[0] for row in VALID)):
      log_p = sum(math.log(p[e, j]) for e, j in enumerate(index))
      result = gates.log_probability(arch, VALID, jnp.array(index))
      assert result.shape == ()
      np.testing.assert_allclose(result, log_p, rtol=1e-14)


def test_functions_take_leading_axes():
  arch = jnp.stack([ARCH, 2 * ARCH])
  index = jnp.array([[0, 0, 3, 1], [2, 0, 1, 0]])
  for result, one in (
    (
      gates.log_probability(arch, VALID, index),
      lambda a, i: gates.log_probability(a, VALID, i),
    ),
    (gates.entropy(arch, VALID), lambda a, _: gates.entropy(a, VALID)),
    (
      gates.most_probable(arch, VALID),
      lambda a, _: gates.most_probable(a, VALID),
    ),
    (gates.straight_through(arch, index), gates.straight_through),
  ):
    expected = jnp.stack([one(a, i) for a, i in zip(arch, index)])
    np.testing.assert_allclose(result, expected, rtol=1e-6)
  pairs = gates.draw_pair(jax.random.key(0), arch, VALID)
  np.testing.assert_array_equal(pairs.sum(-1), [[2, 1, 2, 2]] * 2)


def test_gradients_are_finite_and_zero_at_padding():
  """0 log 0 and -inf must not become NaN on the way back."""
  with jax.enable_x64(True):
    index = jnp.array([2, 0, 1, 0])
    p = _softmax()
    entropy = np.nansum(-p * np.log(np.where(p > 0, p, 1.0)), axis=1)
    log_p = np.log(np.where(p > 0, p, 1.0))
    one_hot = np.eye(4)[np.asarray(index)]
    for function, expected in (
      (
        lambda a: gates.entropy(a, VALID).sum(),
        -p * (log_p + entropy[:, None]),
      ),
      (lambda a: gates.log_probability(a, VALID, index), one_hot - p),
    ):
      gradient = jax.grad(function)(jnp.asarray(ARCH))
      np.testing.assert_allclose(gradient, expected, atol=1e-14)
      np.testing.assert_array_equal(gradient[~VALID], 0.0)


def test_entropy_of_certainty_is_zero():
  arch, valid = jnp.array([[500.0, -500.0, 0.0]]), jnp.array([[True] * 3])
  assert gates.entropy(arch, valid) == 0.0
  gradient = jax.grad(lambda a: gates.entropy(a, valid).sum())(arch)
  np.testing.assert_array_equal(gradient, 0.0)


def test_the_straight_through_gradient_is_that_of_loops():
  dgate = np.random.default_rng(0).normal(size=ARCH.shape)
  index = np.array([2, 0, 3, 1])
  p, expected = _softmax(), np.zeros(ARCH.shape)
  for e in range(len(ARCH)):
    for i, j in itertools.product(np.nonzero(VALID[e])[0], repeat=2):
      expected[e, i] += dgate[e, j] * p[e, j] * ((i == j) - p[e, i])
  with jax.enable_x64(True):

    def loss(arch):
      logits = gates.masked(arch, VALID)
      gate = gates.straight_through(logits, jnp.asarray(index))
      return jnp.sum(gate * dgate)

    value, gradient = jax.value_and_grad(loss)(jnp.asarray(ARCH))
    assert value == pytest.approx(dgate[range(4), index].sum(), rel=1e-14)
    np.testing.assert_allclose(gradient, expected, atol=1e-15)
    np.testing.assert_array_equal(gradient[~VALID], 0.0)


@pytest.mark.parametrize("mode", gates.MODES)
def test_the_gradient_through_a_draw_is_within_the_involved(mode):
  """The rule with p renormalised over the candidates that take part."""
  dgate = np.random.default_rng(1).normal(size=ARCH.shape)
  with jax.enable_x64(True):
    for seed in range(5):
      key = jax.random.key(seed)

      def loss(arch, key=key):
        drawn = gates.draw(key, arch, VALID, mode)
        return jnp.sum(drawn.gate * dgate), drawn

      gradient, drawn = jax.grad(loss, has_aux=True)(jnp.asarray(ARCH))
      involved = np.asarray(drawn.involved)
      p = _softmax(valid=involved)
      mean = (p * dgate).sum(axis=1, keepdims=True)
      np.testing.assert_allclose(gradient, p * (dgate - mean), atol=1e-15)
      np.testing.assert_array_equal(gradient[~involved], 0.0)


@pytest.mark.parametrize("mode", gates.MODES)
def test_costs_see_all_probabilities_but_move_the_involved(mode):
  costs = np.random.default_rng(2).normal(size=ARCH.shape)
  with jax.enable_x64(True):

    def loss(arch):
      drawn = gates.draw(jax.random.key(3), arch, VALID, mode)
      return jnp.sum(drawn.probs * costs), drawn

    gradient, drawn = jax.grad(loss, has_aux=True)(jnp.asarray(ARCH))
    np.testing.assert_allclose(drawn.probs, _softmax(), atol=1e-15)
    involved = np.asarray(drawn.involved)
    p = _softmax(valid=involved)
    mean = (p * costs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient, p * (costs - mean), atol=1e-14)
    np.testing.assert_array_equal(gradient[~involved], 0.0)
    if mode == "full":
      np.testing.assert_array_equal(involved, VALID)


def test_full_draws_follow_softmax():
  draws, p = _many("full"), _softmax()
  assert (draws.involved == VALID).all()
  for e in range(len(ARCH)):
    _assert_frequencies(np.bincount(draws.index[:, e], minlength=4), p[e])


def test_edges_are_drawn_independently():
  index, p = _many("full").index, _softmax()
  counts = np.zeros((4, 4))
  np.add.at(counts, (index[:, 0], index[:, 2]), 1)
  _assert_frequencies(counts, np.outer(p[0], p[2]))


def test_pairs_follow_draws_without_replacement():
  involved, p = _many("two").involved, _softmax()
  np.testing.assert_array_equal(
    involved.sum(-1), np.tile(np.minimum(VALID.sum(1), 2), (DRAWS, 1))
  )
  assert (involved <= VALID).all()
  for e in range(len(ARCH)):
    if VALID[e].sum() < 3:
      continue
    pairs = _pair_probabilities(p[e])
    assert sum(pairs.values()) == pytest.approx(1.0)
    counts = [involved[:, e][:, sorted(pair)].all(-1).sum() for pair in pairs]
    _assert_frequencies(counts, list(pairs.values()))


def test_a_pair_draws_with_renormalised_probabilities():
  draws, p = _many("two"), _softmax()
  assert np.take_along_axis(draws.involved, draws.index[..., None], -1).all()
  for e in range(len(ARCH)):
    for pair in _pair_probabilities(p[e]):
      i, j = sorted(pair)
      among = draws.index[draws.involved[:, e, i] & draws.involved[:, e, j], e]
      counts = np.bincount(among, minlength=4)[[i, j]]
      _assert_frequencies(counts, p[e, [i, j]] / p[e, [i, j]].sum())


@pytest.mark.parametrize("mode", gates.MODES)
def test_draws_are_one_hot_and_never_padding(mode):
  draws = _many(mode)
  assert draws.index.dtype == np.int32
  assert draws.gate.dtype == draws.probs.dtype == np.float32
  np.testing.assert_array_equal(draws.gate, np.eye(4)[draws.index])
  for e in range(len(ARCH)):
    assert VALID[e, draws.index[:, e]].all()
  np.testing.assert_array_equal(draws.index[:, 1], 0)
  np.testing.assert_allclose(draws.probs[0], _softmax(), atol=1e-6)


def test_a_pair_has_two_even_where_noise_ties(monkeypatch):
  monkeypatch.setattr(jax.random, "gumbel", lambda key, s, d: jnp.zeros(s, d))
  pair = gates.draw_pair(jax.random.key(0), jnp.zeros(VALID.shape), VALID)
  np.testing.assert_array_equal(pair.sum(-1), [2, 1, 2, 2])


@pytest.mark.parametrize("mode", gates.MODES)
def test_a_space_of_one_candidate_each(mode):
  valid = np.ones((3, 1), bool)
  drawn = gates.draw(jax.random.key(0), jnp.zeros((3, 1)), valid, mode)
  np.testing.assert_array_equal(drawn.index, [0, 0, 0])
  np.testing.assert_array_equal(drawn.gate, np.ones((3, 1)))
  np.testing.assert_array_equal(drawn.probs, np.ones((3, 1)))


def test_a_draw_repeats_with_its_key():
  arch = jnp.asarray(ARCH, jnp.float32)
  for mode in gates.MODES:
    one, again = (
      gates.draw(jax.random.key(7), arch, VALID, mode) for _ in range(2)
    )
    jax.tree.map(np.testing.assert_array_equal, one, again)


@pytest.mark.parametrize("mode", ["Full", "", None, 2])
def test_an_unknown_mode_is_refused(mode):
  message = r"mode = .*: expected one of \('full', 'two'\)"
  with pytest.raises(ValueError, match=message):
    gates.draw(jax.random.key(0), jnp.asarray(ARCH), VALID, mode)


def test_most_probable_ignores_padding():
  index = gates.most_probable(jnp.asarray(ARCH), VALID)
  assert index.dtype == jnp.int32
  np.testing.assert_array_equal(index, [2, 0, 0, 1])
  negative = gates.most_probable(-10.0 - jnp.abs(jnp.asarray(ARCH)), VALID)
  np.testing.assert_array_equal(negative, [0, 0, 1, 0])


def test_the_gates_of_a_path():
  gate = gates.path(np.array([2, 0, 3, 1]), VALID)
  np.testing.assert_array_equal(gate.gate, np.eye(4)[[2, 0, 3, 1]])
  np.testing.assert_array_equal(gate.probs, gate.gate)
  assert gate.index.dtype == jnp.int32
  assert not gate.involved.any()


def test_several_paths_have_each_candidate_as_often_as_its_probability():
  logits = jnp.asarray(ARCH)
  probs = np.where(VALID, gates.probabilities(logits, VALID), 0.0)
  draw = functools.partial(gates.draw_several, arch=logits, valid=VALID)
  draw = jax.jit(draw, static_argnames="paths")
  for paths in (2, 3, 5):
    for seed in range(20):
      several = draw(jax.random.key(seed), paths=paths)
      assert several.index.shape == (paths, len(ARCH))
      counts = np.sum(several.gate, axis=0)
      assert np.all(counts >= np.floor(paths * probs - 1e-5))
      assert np.all(counts <= np.ceil(paths * probs + 1e-5))


def test_several_paths_are_fair_to_candidates_of_equal_probability():
  valid = np.array([[True] * 3, [True] * 3])
  for seed in range(20):
    key = jax.random.key(seed)
    several = gates.draw_several(key, jnp.zeros((2, 3)), valid, 3)
    np.testing.assert_array_equal(np.sort(several.index, 0)[:, 0], [0, 1, 2])
    np.testing.assert_array_equal(np.sort(several.index, 0)[:, 1], [0, 1, 2])


@pytest.mark.parametrize("own", [False, True])
def test_each_of_several_paths_is_drawn_from_p(own):
  """Edges are independent within a path, whoever draws it."""
  valid, more = np.ones((2, 3), bool), {}
  if own:
    more["draw"] = lambda *arguments: gates.draw(*arguments)
  logits = jnp.log(jnp.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]))

  def draw(key):
    return gates.draw_several(key, logits, valid, 4, **more).index

  paths = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(1), 2000))
  wanted = 2000 * np.outer(np.exp(logits[0]), np.exp(logits[1])).ravel()
  for path in np.asarray(paths).swapaxes(0, 1):
    counts = np.bincount(3 * path[:, 0] + path[:, 1], minlength=9)
    # Chi-squared with 8 degrees of freedom stays below 26 at 0.999.
    assert np.sum((counts - wanted) ** 2 / wanted) < 26.0


def test_one_of_several_paths_is_a_draw():
  key = jax.random.key(0)
  one = gates.draw(key, jnp.asarray(ARCH), VALID, "full")
  several = gates.draw_several(key, jnp.asarray(ARCH), VALID, 1)
  for wanted, got in zip(one, several):
    np.testing.assert_array_equal(got, wanted[None])


def test_no_rounding_leads_to_a_candidate_that_does_not_exist(monkeypatch):
  valid = np.array([[True, True, False]])
  largest = float(np.nextafter(np.float32(1), np.float32(0)))
  monkeypatch.setattr(
    jax.random, "uniform", lambda key, shape: jnp.full(shape, largest)
  )
  probs = jnp.array([[0.3, 0.69999, 0.0]])
  index = gates.systematic(jax.random.key(0), probs, 2)
  assert index.max() == 1 and valid[0, index.max()]
