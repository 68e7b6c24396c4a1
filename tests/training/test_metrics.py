"""Metrics of batches: masked, counted, merged."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from proxyless_jax.training import metrics


def softmax(logits):
  e = np.exp(logits - logits.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_cross_entropy_is_of_the_real_examples(label_smoothing):
  rng = np.random.default_rng(0)
  logits = rng.standard_normal((5, 4)).astype(np.float32)
  label, mask = rng.integers(4, size=5), np.array([1.0, 0.0, 1.0, 1.0, 0.0])
  target = (1 - label_smoothing) * np.eye(4)[label] + label_smoothing / 4
  losses = -np.sum(target * np.log(softmax(logits)), -1)
  batch = {"label": jnp.asarray(label), "mask": jnp.asarray(mask)}
  got = metrics.cross_entropy(jnp.asarray(logits), batch, label_smoothing)
  assert_allclose(got, (losses * mask).sum() / 3, rtol=1e-5)
  nothing = {**batch, "mask": jnp.zeros(5)}
  assert (
    metrics.cross_entropy(jnp.asarray(logits), nothing, label_smoothing) == 0.0
  )


def count(logits, label, mask):
  batch = {"label": jnp.asarray(label), "mask": jnp.asarray(mask, jnp.float32)}
  means = metrics.classification(jnp.asarray(logits), batch, jnp.float32(2.0))
  return {name: tuple(map(float, mean)) for name, mean in means.items()}


def test_classification_counts_the_real_examples():
  """Logits of few values, so with many ties, as a stable sort breaks them."""
  rng = np.random.default_rng(0)
  logits = rng.integers(3, size=(64, 9)).astype(np.float32)
  label, mask = rng.integers(9, size=64), rng.integers(2, size=64)
  order = np.argsort(-logits, axis=-1, kind="stable")
  hit = order == label[:, None]
  n = mask.sum()
  assert count(logits, label, mask) == {
    "loss": (2.0 * n, n),
    "top1": ((hit[:, :1].any(-1) * mask).sum(), n),
    "top5": ((hit[:, :5].any(-1) * mask).sum(), n),
  }


def test_equal_logits_are_at_chance_and_nan_is_wrong():
  """Equal logits name one class, not all; NaN names none."""
  label = np.arange(10)
  same = count(np.zeros((10, 10), np.float32), label, np.ones(10))
  assert same["top1"] == (1.0, 10.0)
  assert same["top5"] == (5.0, 10.0)
  diverged = count(np.full((10, 10), np.nan, np.float32), label, np.ones(10))
  assert diverged["top1"] == diverged["top5"] == (0.0, 10.0)


def test_metrics_merge_by_addition():
  mean = metrics.Mean
  one = {"loss": mean(3.0, 2.0), "top1": mean(1.0, 2.0)}
  other = {"loss": mean(5.0, 4.0), "arch_loss": mean(1.0, 1.0)}
  assert metrics.merge(one, other) == {
    "loss": mean(8.0, 6.0),
    "top1": mean(1.0, 2.0),
    "arch_loss": mean(1.0, 1.0),
  }
  assert metrics.merge({}, one) == one
