"""Steps on the drawn rows equal masked steps on the whole banks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_array_equal

from proxyless_jax.nas import transforms
from proxyless_jax.nas.transforms import update_drawn
from proxyless_jax.nn.supernet.rows import get_path
from proxyless_jax.training.optimizers import weight_optimizer

TRANSFORMS = {
  "sgd": weight_optimizer(
    0.1, momentum=0.9, nesterov=True, weight_decay=0.1, kernels_only=False
  ),
  "kernels_only": weight_optimizer(
    0.1, momentum=0.9, nesterov=True, weight_decay=0.1, kernels_only=True
  ),
  "adam": optax.adamw(1e-2, weight_decay=0.1),
  "rmsprop": optax.rmsprop(1e-2, momentum=0.9, centered=True),
  "schedule": optax.chain(
    optax.trace(0.9),
    optax.scale_by_schedule(lambda step: -0.1 / (1.0 + step)),
  ),
  "clip": optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1, 0.9)),
}
PARAMS = {
  "stem": {"kernel": (2, 3), "bias": (3,)},
  "bank": (3, 4, 5),
  "other": (1, 2, 7),
  "empty": (2, 2, 0),
}
DRAWN = (
  ((1, 0, 3), (0,), (1, 0)),
  ((1, 2, 2), (1,), (0, 0)),
  ((0, 0, 0), (0,), (1, 1)),
)


def random_tree(seed):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda shape: jnp.asarray(rng.standard_normal(shape), jnp.float32),
    PARAMS,
    is_leaf=lambda node: isinstance(node, tuple),
  )


def rows_of(drawn):
  return dict(zip(("bank", "other", "empty"), map(jnp.array, drawn)))


def masks_of(drawn):
  """bool[n, k, 1] per bank: what `drawn_only` takes for the same draw."""
  masks = {"stem": True}
  for name, index in zip(("bank", "other", "empty"), drawn):
    count = PARAMS[name][1]
    masks[name] = (jnp.arange(count) == jnp.array(index)[:, None])[:, :, None]
  return masks


def on_path(grads, masks):
  zeros = functools.partial(jax.tree.map, jnp.zeros_like)
  return {
    name: tree
    if masks[name] is True
    else jnp.where(masks[name], tree, zeros(tree))
    for name, tree in grads.items()
  }


def norms_are_exact(tree):
  """Small integers: any order of a sum of squares gives the same bits."""
  return jax.tree.map(lambda leaf: jnp.round(2.0 * leaf), tree)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_rows_equal_masks_bit_for_bit(name):
  tx, masked = TRANSFORMS[name], transforms.drawn_only(TRANSFORMS[name])
  params = other = random_tree(0)
  state = other_state = tx.init(params)
  for step, drawn in enumerate(DRAWN):
    masks = masks_of(drawn)
    grads = norms_are_exact(random_tree(step + 1))
    grads = on_path(grads, masks)
    before = params, state
    rows = rows_of(drawn)
    drawn_grads = get_path(grads, rows)
    params, state = update_drawn(tx, drawn_grads, state, params, rows)
    updates, other_state = masked.update(grads, other_state, other, drawn=masks)
    other = optax.apply_updates(other, updates)
    jax.tree.map(assert_array_equal, params, other)
    jax.tree.map(assert_array_equal, state, other_state)
    off = ~np.asarray(masks["bank"])[..., 0]
    assert_array_equal(params["bank"][off], before[0]["bank"][off])
    assert (params["bank"][~off] != before[0]["bank"][~off]).any()


def test_what_is_not_drawn_may_be_anything():
  """NaN off the path, in gradient, parameter or momentum, goes nowhere."""
  params = {"bank": jnp.array([[[1.0], [jnp.nan]]])}
  tx = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.5, 0.9))
  state = tx.init(params)
  grads = {"bank": jnp.array([[[4.0], [jnp.nan]]])}
  drawn = {"bank": jnp.array([0])}
  grads = get_path(grads, drawn)
  new, state = update_drawn(tx, grads, state, params, drawn)
  assert_array_equal(new["bank"], [[[0.5], [np.nan]]])
  assert np.isfinite(optax.tree_utils.tree_get(state, "trace")["bank"]).all()


def test_it_traces_once_for_all_draws():
  tx = TRANSFORMS["sgd"]
  traces = []

  @jax.jit
  def step(grads, state, params, drawn):
    traces.append(1)
    drawn = {"bank": drawn}
    grads = get_path(grads, drawn)
    return update_drawn(tx, grads, state, params, drawn)

  params = {"bank": jnp.zeros((2, 3, 4))}
  state = tx.init(params)
  for index in ([0, 1], [2, 2]):
    params, state = step(params, state, params, jnp.array(index))
  assert len(traces) == 1
