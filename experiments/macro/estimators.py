"""How near the gradients of the architecture are to the true one.

The true gradient of the expected loss J(alpha) = E_path L(path) is, on edge e,

    dJ/dalpha_i = sum_j p_j (delta_ij - p_i) E[L(path with candidate j on e)],

where the other edges are drawn: here each of them, with its batch of images,
is enumerated over the candidates of every edge in turn. The estimators see the
same draws and batches:

    full, two    straight through the gates, as the steps of `nas.arch_step`
    controlled   `full` less a control variate: b (one-hot of the draw - p) on
                 each edge, whose mean is zero, with b fitted to the other half
                 of the draws
    reinforce   (L - b) grad log p, with b the mean of the losses L of the draws
    accuracy    the same of the accuracy, as in a search; judged by the true
                gradient of the accuracy
    enumerated  the true gradient of one draw and batch

Of each: the cosine of its mean with the true gradient; `unbiased`, the cosine
that noise leaves to an estimator without bias, sqrt(n s / (1 + n s)) for n
draws; the slope of its mean against the true gradient; the ratio s of signal to
noise, |E g|^2 / E |g - E g|^2 of one draw; and s divided by the images that a
draw needs, where those that run forward only count a third.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.macro.training import Supernet
from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas.arch_step import arch_gradients

FORWARD = 1 / 3  # Of the images of a step that runs backward, too.


def compare(
  net: Supernet, variables: dict, arch: jax.Array, batches: dict, seed: int
) -> dict[str, dict[str, float]]:
  """The estimators' figures at one point of a search.

  Args:
    net: the supernet.
    variables: its {'params', 'batch_stats'}.
    arch: f32[e, k], alpha.
    batches: arrays f[n, b, ...] of n batches, one for each draw.
    seed: seed of the draws.

  Returns:
    By estimator: 'cosine', 'unbiased', 'slope', 'snr', 'snr_per_image', and
    'images' of a draw. Under 'true': the cosines with each other of the true
    gradients of the draws' two halves, for loss and accuracy.
  """
  keys = jax.random.split(jax.random.key(seed), len(batches["label"]))
  arch, valid = jnp.asarray(arch), jnp.asarray(net.valid)
  loss, top1 = _enumerated(net, variables, arch, batches, keys)
  probs = np.asarray(gates_lib.probabilities(arch, valid), np.float64)
  of_loss, of_top1 = _through(probs, loss), _through(probs, top1)
  batch = batches["label"].shape[1]
  edges, k = valid.shape
  found = {
    "true": {"loss_halves": _halves(of_loss), "top1_halves": _halves(of_top1)},
    # The drawn path is one of the candidates' on every edge.
    "enumerated": _figures(
      of_loss, of_loss, FORWARD * (edges * (k - 1) + 1) * batch
    ),
  }
  paths, score = _scores(net, arch, keys)
  grads = {
    mode: _straight(net, variables, arch, batches, keys, mode)
    for mode in ("full", "two")
  }
  grads["controlled"] = _controlled(grads["full"], score)
  runs = {"full": 1 + 2 * FORWARD, "two": 1 + FORWARD}
  runs["controlled"] = runs["full"]
  for name, of_draws in grads.items():
    found[name] = _figures(of_draws, of_loss, runs[name] * batch)
  for name, value, true in (
    ("reinforce", loss, of_loss),
    ("accuracy", top1, of_top1),
  ):
    of_draws = _reinforce(paths, score, value)
    found[name] = _figures(of_draws, true, FORWARD * batch)
  return found


def _draw(net, arch, key):
  return gates_lib.draw(key, arch, jnp.asarray(net.valid), "full").index


def _enumerated(net, variables, arch, batches, keys):
  """Loss and accuracy f64[n, e, k] of each draw with each candidate."""
  edges, k = net.valid.shape

  def of_draw(_, drawn):
    key, batch = drawn
    path = _draw(net, arch, key)
    paths = jnp.broadcast_to(path, (edges, k, edges))
    every = jnp.broadcast_to(jnp.arange(k), (edges, k))
    rows = jnp.arange(edges)
    paths = paths.at[rows, :, rows].set(every).reshape(-1, edges)

    def of_path(_, path):
      return None, net.evaluate(variables, path, batch)

    top1, loss = lax.scan(of_path, None, paths)[1]
    return None, (loss.reshape(edges, k), top1.reshape(edges, k))

  run = jax.jit(lambda keys, batches: lax.scan(of_draw, None, (keys, batches)))
  return [np.asarray(values, np.float64) for values in run(keys, batches)[1]]


def _through(probs, values):
  """Gradients in alpha, f64[n, e, k], of expectations on each edge."""
  return probs * (values - np.sum(probs * values, axis=-1, keepdims=True))


def _straight(net, variables, arch, batches, keys, mode):
  gradients = functools.partial(
    arch_gradients,
    valid=jnp.asarray(net.valid),
    mode=mode,
    grad_accum=1,
    module=net.module,
    costs=(),
    label_smoothing=0.0,
  )

  def of_draw(_, drawn):
    key, batch = drawn
    none = jnp.zeros(0)
    return None, gradients(arch, variables, none, key, batch)[0]

  run = jax.jit(lambda keys, batches: lax.scan(of_draw, None, (keys, batches)))
  return np.asarray(run(keys, batches)[1], np.float64)


def _scores(net, arch, keys):
  """The drawn paths i32[n, e], and grad log p of them f64[n, e, k]."""
  paths = jax.vmap(functools.partial(_draw, net, arch))(keys)
  score = jax.vmap(
    jax.grad(gates_lib.log_probability), in_axes=(None, None, 0)
  )(arch, jnp.asarray(net.valid), paths)
  return np.asarray(paths), np.asarray(score, np.float64)


def _controlled(grads, score):
  """Gradients less the part of `score` that the other half's draws have."""
  half = len(grads) // 2
  halves = slice(half), slice(half, None)
  parts = []
  for this, other in (halves, halves[::-1]):
    noise = grads[other] - grads[other].mean(0)
    fit = np.sum(noise * score[other], axis=(0, 2))
    fit /= np.maximum(np.sum(score[other] ** 2, axis=(0, 2)), 1e-12)
    parts.append(grads[this] - fit[:, None] * score[this])
  return np.concatenate(parts)


def _reinforce(paths, score, values):
  """Gradients of an expectation, from the value of each draw's path."""
  # On any edge, the candidate that was drawn makes the path that was drawn.
  drawn = values[np.arange(len(paths)), 0, paths[:, 0]]
  advantage = drawn - drawn.mean()
  return advantage[:, None, None] * score


def _halves(samples):
  half = len(samples) // 2
  return _cosine(samples[:half].mean(0), samples[half:].mean(0))


def _cosine(one, other):
  return float(
    np.sum(one * other) / (np.linalg.norm(one) * np.linalg.norm(other))
  )


def _figures(samples, true, images):
  """The figures of an estimator, from its gradients of each draw."""
  mean, target = samples.mean(0), true.mean(0)
  noise = np.mean(np.sum((samples - mean) ** 2, axis=(1, 2)))
  noise *= len(samples) / (len(samples) - 1)
  signal = max(0.0, np.sum(mean**2) - noise / len(samples))
  ratio = len(samples) * signal / noise
  return {
    "cosine": _cosine(mean, target),
    "unbiased": float(np.sqrt(ratio / (1 + ratio))),
    "slope": float(np.sum(mean * target) / np.sum(target**2)),
    "snr": float(signal / noise),
    "images": float(images),
    "snr_per_image": float(signal / noise / images),
  }
