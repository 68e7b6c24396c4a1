"""The estimators' figures, where the true gradient is known or nearly so."""

import jax
import numpy as np
import pytest

from experiments import cifar10
from experiments.macro import estimators, training
from tests.spaces import small_space

SETTINGS = training.Settings(
  batch=8, arch_batch=8, paths=2, warmup_steps=6, ramp_steps=2, steps=8
)


@pytest.fixture(scope="module")
def net():
  space = small_space(
    image_size=32,
    channels=3,
    classes=10,
    stem_stride=2,
    candidates=("mbconv1_k3", "zero"),
  )
  rng = np.random.default_rng(0)
  image = rng.integers(256, size=(40, 32, 32, 3), dtype=np.uint8)
  images = cifar10.Images(image, np.arange(40, dtype=np.int32) % 10)
  return training.Supernet(SETTINGS, *cifar10.split(images, 16, seed=0), space)


def test_enumeration_is_the_gradient_of_the_expected_loss(net):
  """Of two edges with two candidates: against all four paths."""
  state = net.init(0)
  variables = training.variables_of(state)
  batches = net.held_out_batches(state.key, 400, first=0)
  batches = jax.tree.map(lambda leaf: leaf[:1].repeat(400, axis=0), batches)
  keys = jax.random.split(jax.random.key(3), 400)
  arch = np.array([[0.4, -0.2], [0.0, 0.7]], np.float32)
  loss, top1 = estimators._enumerated(net, variables, arch, batches, keys)
  assert loss.shape == top1.shape == (400, 2, 2)
  paths = [(i, j) for i in range(2) for j in range(2)]
  of_path = {}
  drawn = np.array([estimators._draw(net, arch, key) for key in keys[:40]])
  for path in paths:
    row = np.flatnonzero((drawn == path).all(axis=1))[0]
    of_path[path] = loss[row, 0, path[0]]
    assert of_path[path] == pytest.approx(loss[row, 1, path[1]])
  probs = np.exp(arch) / np.exp(arch).sum(axis=1, keepdims=True)

  def expected(candidate_loss):
    return np.sum(probs[0] * candidate_loss)

  of_first = [
    sum(probs[1][j] * of_path[i, j] for j in range(2)) for i in range(2)
  ]
  wanted = probs[0] * (of_first - expected(of_first))
  got = estimators._through(probs, loss).mean(axis=0)[0]
  error = estimators._through(probs, loss)[:, 0].std(axis=0) / 20
  assert np.all(np.abs(got - wanted) < 4 * error + 1e-6)


def test_figures_of_samples_with_known_signal_and_noise():
  rng = np.random.default_rng(1)
  true = rng.standard_normal((1, 3, 4))
  noise = 2.0 * rng.standard_normal((4000, 3, 4))
  found = estimators._figures(0.5 * true + noise, true, images=10)
  assert found["cosine"] == pytest.approx(1.0, abs=0.02)
  assert found["slope"] == pytest.approx(0.5, abs=0.05)
  assert found["snr"] == pytest.approx(
    np.sum((0.5 * true) ** 2) / (4.0 * 12), rel=0.25
  )
  assert found["snr_per_image"] == found["snr"] / 10


def test_a_control_variate_takes_the_draws_noise_away_and_keeps_the_mean():
  rng = np.random.default_rng(2)
  probs = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
  drawn = [rng.choice(3, size=2000, p=p) for p in probs]
  score = np.stack([np.eye(3)[i] for i in drawn], axis=1) - probs
  true = rng.standard_normal((1, 2, 3))
  noise = 0.1 * rng.standard_normal((2000, 2, 3))
  grads = true + np.array([[3.0], [-5.0]]) * score + noise
  found = estimators._controlled(grads, score)
  assert np.allclose(found.mean(axis=0), true, atol=0.02)
  assert found.std(axis=0) == pytest.approx(0.1, rel=0.1)


def test_all_estimators_have_figures(net):
  state = net.init(0)
  batches = net.held_out_batches(state.key, 8, first=0)
  found = estimators.compare(
    net, training.variables_of(state), state.arch, batches, seed=0
  )
  assert set(found) == {
    *("true", "enumerated", "full", "controlled", "two"),
    *("reinforce", "accuracy"),
  }
  assert found["enumerated"]["cosine"] == pytest.approx(1.0)
  assert found["enumerated"]["slope"] == pytest.approx(1.0)
