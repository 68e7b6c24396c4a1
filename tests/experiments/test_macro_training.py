"""The compiled loops of the NAS-Bench-Macro experiment, in a tiny space."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import cifar10
from experiments.dense import DenseModule
from experiments.macro import dense_steps, training
from proxyless_jax.nn import build, inherit
from tests.spaces import small_space

SETTINGS = training.Settings(
  batch=8,
  paths=2,
  arch_batch=8,
  warmup_steps=6,
  ramp_steps=2,
  steps=8,
  samples=6,
)


@pytest.fixture(scope="module")
def space():
  return small_space(
    image_size=32,
    channels=3,
    classes=10,
    stem_stride=2,
    candidates=("mbconv1_k3", "zero"),
  )


@pytest.fixture(scope="module")
def images():
  rng = np.random.default_rng(0)
  image = rng.integers(256, size=(40, 32, 32, 3), dtype=np.uint8)
  label = np.arange(40, dtype=np.int32) % 10
  return cifar10.split(cifar10.Images(image, label), 16, seed=0)


@pytest.fixture(scope="module")
def net(space, images):
  return training.Supernet(SETTINGS, *images, space)


@pytest.fixture(scope="module")
def warm(net):
  state = net.init(0)
  return state, net.warm_up(state, 1)


def test_a_warm_up_trains_each_candidate_in_each_step(net, space, warm):
  """Two paths a step, of two candidates on each edge."""
  before, metrics = warm[1]
  after, _ = net.warm_up(before, 1)
  bank = space.edges[0].name  # Of both edges; the other candidate is `zero`.
  moved = np.asarray(before.params[bank] != after.params[bank])
  assert moved.any(axis=-1)[:, 0].all()
  assert metrics["loss"].count == 16


def test_dense_steps_train_all_candidates_on_the_mean_of_their_outputs(
  space, images
):
  settings = dataclasses.replace(SETTINGS, dense=1e6)  # All steps.
  net = training.Supernet(settings, *images, space)
  before = net.init(0)
  after, metrics = net.warm_up(before, 2)  # The first has a rate of zero.
  assert (int(after.step), metrics["loss"].count) == (2, 2 * SETTINGS.batch)
  name = space.edges[0].name
  moved = np.asarray(before.params[name] != after.params[name])
  assert moved.any(axis=-1)[:, 0].all()
  # `zero` adds nothing, so that the mean is half of the other candidate: as if
  # the last scale and offset of its batch norm were halved.
  variables = training.variables_of(before)
  batch = cifar10.batch_of(jax.device_put(images[0]), jnp.arange(8))
  named = dense_steps.named_candidates(space, variables)
  weights = jnp.full((2, 2), 0.5)
  logits, _ = jax.jit(
    lambda: DenseModule(space).apply(
      named, batch["image"], weights, True, mutable=["batch_stats"]
    )
  )()
  network = space.choose([0, 0])
  own = inherit(space, variables, network)
  for edge in space.edges:
    of_op = own["params"][edge.name]["mbconv1_k3"]
    last = list(of_op)[-1]
    of_op[last] = jax.tree.map(lambda a: a / 2, of_op[last])
  wanted, _ = jax.jit(
    lambda: build(network).apply(
      own, batch["image"], True, mutable=["batch_stats"]
    )
  )()
  np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("running", [False, True])
def test_scores_are_those_of_the_networks(net, space, images, warm, running):
  """Against each architecture with the weights that it inherits."""
  variables = training.variables_of(warm[1][0])
  paths = np.array([[0, 1], [1, 1]])
  scores, losses = net.score(variables, paths, 16, 8, running)
  assert losses.shape == scores.shape == (2,)
  held_out = jax.device_put(images[1])
  for path, score in zip(paths, scores):
    network = space.choose(path.tolist())
    own = inherit(space, variables, network)
    run = functools.partial(build(network).apply, train=not running)
    run = jax.jit(functools.partial(run, mutable=["batch_stats"]))
    right = []
    for rows in np.arange(16).reshape(2, 8):
      batch = cifar10.batch_of(held_out, rows)
      logits, _ = run(own, batch["image"])
      right.append(np.argmax(logits, -1) == batch["label"])
    assert score == pytest.approx(100.0 * np.mean(right))


@pytest.mark.parametrize("algorithm", ["two", "reinforce"])
def test_a_search_moves_the_architecture(net, warm, algorithm):
  state = net.begin_search(training.variables_of(warm[1][0]), seed=1)
  target = net.table.min_cost
  found, metrics = net.search(state, target, 2, algorithm)
  assert int(found.step) == 2 * SETTINGS.every
  assert np.any(found.arch != state.arch)
  assert np.isfinite(float(metrics["arch_loss"].total))
  # Dearer than the target, so its price went up.
  assert found.multipliers[0] > 0.0


def test_a_batch_is_of_the_rows_and_normalised(images):
  held_out = jax.device_put(images[1])
  batch = cifar10.batch_of(held_out, jnp.array([3, 5]))
  wanted = images[1].image[[3, 5]] / 255.0
  wanted = (wanted - cifar10.MEAN) / cifar10.STD
  np.testing.assert_allclose(batch["image"], wanted, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(batch["label"], images[1].label[[3, 5]])


def test_an_augmented_image_is_a_crop_of_the_padded_one(images):
  part = jax.device_put(images[1])
  batch = cifar10.batch_of(part, jnp.arange(4), jax.random.key(0))
  seen = batch["image"] * np.array(cifar10.STD) + np.array(cifar10.MEAN)
  seen = np.rint(255.0 * seen).astype(int)
  for image, own in zip(images[1].image[:4], seen):
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    crops = [
      padded[y : y + 32, x : x + 32][:, ::flip]
      for y in range(9)
      for x in range(9)
      for flip in (1, -1)
    ]
    assert any(np.array_equal(crop, own) for crop in crops)


def test_an_epoch_has_every_image_once():
  key = jax.random.key(0)
  rows = [cifar10.epoch_rows(key, 24, 8, step) for step in range(6)]
  for epoch in (rows[:3], rows[3:]):
    assert sorted(np.concatenate(epoch)) == list(range(24))
  assert not np.array_equal(rows[:3], rows[3:])
