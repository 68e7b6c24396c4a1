"""A weight step with several paths against autodiff of their losses."""

import functools

import jax
import numpy as np
import optax
import pytest

from proxyless_jax.nas import gates
from proxyless_jax.nas.state import WEIGHT_STREAM, search_state
from proxyless_jax.nas.weight_step import weight_step
from proxyless_jax.nn import build, init
from proxyless_jax.nn.supernet.bank import banks
from proxyless_jax.training.metrics import cross_entropy
from proxyless_jax.training.optimizers import by_name
from tests.spaces import small_space

PATHS = 3
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def space():
  return small_space(candidates=("mbconv1_k3", "mbconv3_k3", "zero"))


def batch_of():
  rng = np.random.default_rng(0)
  image = rng.standard_normal((12, 6, 6, 2)).astype(np.float32)
  label = np.arange(12, dtype=np.int32) % 3
  mask = np.append(np.ones(11, np.float32), np.float32(0))
  return {"image": image, "label": label, "mask": mask}


def test_weights_follow_the_mean_over_the_paths_that_drew_them(space):
  module = build(space)
  valid = gates.valid_candidates(space)
  tx = by_name(
    "sgd", 1.0, momentum=0.0, nesterov=False, b1=0, b2=0, weight_decay=0.0
  )  # The change is the gradient.
  variables = init(module, jax.random.key(0))
  state = search_state(
    jax.random.key(1), variables, valid, tx, optax.sgd(1.0), 1.0, 0
  )
  batch = batch_of()
  step = functools.partial(
    weight_step,
    module=module,
    valid=valid,
    tx=tx,
    label_smoothing=0.1,
    grad_accum=2,
    paths=PATHS,
  )
  after, metrics = jax.jit(step)(state, batch)

  def loss(params, path, part):
    logits, _ = module.apply(
      {"params": params, "batch_stats": state.batch_stats},
      part["image"],
      train=True,
      gates=gates.path(path, valid),
      mutable=["batch_stats"],
    )
    return cross_entropy(logits, part, 0.1)

  grad = jax.jit(jax.grad(loss))
  key = state.step_key(WEIGHT_STREAM)
  paths = gates.draw_several(key, state.arch, valid, PATHS).index
  grads = []
  for i, path in enumerate(paths):
    # Of the path's images, those of each of both parts.
    rows = [np.arange(12)[i::PATHS][j::2] for j in (0, 1)]
    parts = [{name: leaf[r] for name, leaf in batch.items()} for r in rows]
    of_parts = [grad(state.params, path, part) for part in parts]
    grads.append(jax.tree.map(lambda a, b: (a + b) / 2, *of_parts))
  drew = np.stack(
    [np.asarray(gates.path(path, valid).gate) for path in paths]
  ).sum(axis=0)
  assert (drew > 1).any() and ((drew == 0) & valid).any()
  counts = {
    bank.name: drew[[space.edges.index(edge) for edge in bank.edges]]
    for bank in banks(space)
    if len(bank.form.ops) > 1
  }
  moved = jax.tree.map(lambda a, b: a - b, state.params, after.params)
  for name, got in moved.items():
    want = jax.tree.map(lambda *leaves: sum(leaves), *(g[name] for g in grads))
    if name in counts:
      close(got, want / np.maximum(counts[name], 1)[..., None])
    else:
      jax.tree.map(lambda g, w: close(g, w / PATHS), got, want)
  assert metrics["loss"].count == 11
  for name, count in counts.items():
    kept = np.asarray(state.batch_stats[name] == after.batch_stats[name])
    assert kept[count == 0].all() and not kept[count > 0].all()
