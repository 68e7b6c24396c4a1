"""The weight step: draw a path, train its weights and nothing else.

    path ~ softmax(alpha),   w <- T(w, dL(path, w) / dw)   on the path's weights

Devices share the path, each with its share of the batch: the step is that of
one device with the whole batch, and they exchange the gradient of one path.

With `path_per_device` each of n devices draws a path from the same alpha, and
runs it on its share of the batch, with the batch-norm moments of that share.
With g_d of device d,

    weights of a bank's row:  mean of g_d over the devices that drew it
    all other weights:        mean of g_d over all devices

Each g_d has the expectation of the gradient of one device by itself, so their
mean has it too, and the draws' part of its variance is 1 / n of theirs. Devices
exchange gradients of all candidates for it, not of one path.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas.state import WEIGHT_STREAM, SearchState
from proxyless_jax.nas.transforms import drawn_only, update_drawn
from proxyless_jax.nn.networks.train_pass import forward, psum_gradients
from proxyless_jax.nn.supernet.rows import drawn_rows, get_path
from proxyless_jax.parallel.collectives import PATH, over_devices, psum
from proxyless_jax.training.metrics import (
  Metrics,
  classification,
  cross_entropy,
  in_parts,
)


class Path(NamedTuple):
  """A drawn path.

  Attributes:
    rows: parameters of the path; of banks, the drawn rows f[n, 1, length].
    drawn: i32[n] by the names of banks, the drawn candidate of each edge.
    gates: gates of the path.
  """

  rows: dict[str, Any]
  drawn: dict[str, jax.Array]
  gates: gates_lib.Gates


def weight_step(
  state: SearchState,
  batch: dict,
  *,
  module: nn.Module,
  valid: jax.Array,
  tx: optax.GradientTransformation,
  label_smoothing: float,
  grad_accum: int,
  draw: gates_lib.Draw = gates_lib.draw,
  mesh: Mesh | None = None,
  path_per_device: bool = False,
) -> tuple[SearchState, Metrics]:
  """Trains the weights of a drawn path; everything off it keeps its bits.

  Args:
    state: state of the search.
    batch: images and labels of the weights' split.
    module: module of the search space.
    valid: bool[e, k], the candidates that exist.
    tx: optimizer of the weights, applied to the drawn path alone; see
      `transforms.drawn_only` for the states that it may keep.
    label_smoothing: smoothing of the labels.
    grad_accum: number of parts of the batch, in memory one after the other.
    draw: function that draws the gates of a path, called with mode `full`.
    mesh: devices that share the batch; None for one device.
    path_per_device: whether each device of the mesh draws a path of its own.
  """
  learn = functools.partial(
    path_gradients,
    module=module,
    label_smoothing=label_smoothing,
    grad_accum=grad_accum,
  )
  network = module.network
  draw_path = functools.partial(_draw_path, valid, draw, network)
  if path_per_device and mesh is not None:
    return _own_paths(state, batch, draw_path, learn, tx, mesh)
  key = state.step_key(WEIGHT_STREAM)
  # Drawn before the devices part: of a sharded state the rows alone travel.
  path = draw_path(state.params, state.arch, key)

  def on_shard(replicated: tuple, batch: dict) -> tuple[dict, dict, Metrics]:
    path, batch_stats, key = replicated
    grads, batch_stats, metrics = learn(path, batch_stats, key, batch)
    grads = psum_gradients(grads, network, path.drawn)
    return grads, batch_stats, psum(metrics)

  replicated = path, state.batch_stats, jax.random.fold_in(key, 1)
  grads, batch_stats, metrics = over_devices(on_shard, mesh)(replicated, batch)
  params, opt_state = update_drawn(
    tx, grads, state.opt_state, state.params, path.drawn
  )
  return _next(state, params, batch_stats, opt_state), metrics


def _draw_path(valid, draw, network, params, arch, key) -> Path:
  gates = lax.stop_gradient(draw(key, arch, valid, "full"))
  drawn = drawn_rows(network, gates.index)
  return Path(get_path(params, drawn), drawn, gates)


def path_gradients(
  path: Path,
  batch_stats: dict,
  key: jax.Array,
  batch: dict,
  *,
  module: nn.Module,
  label_smoothing: float,
  grad_accum: int,
) -> tuple[dict, dict, Metrics]:
  """Gradients of the mean loss of a batch in the weights of a path.

  On a device's share of a batch they are its own part, to be added up.

  Args:
    path: the drawn path.
    batch_stats: batch-norm statistics of the search space.
    key: PRNG key for dropout.
    batch, module, label_smoothing, grad_accum: as for `weight_step`.

  Returns:
    Gradients of `path.rows`, new batch-norm statistics, metrics.
  """

  def of_part(
    part: dict, batch_stats: dict, key: jax.Array
  ) -> tuple[dict, tuple[dict, Metrics]]:
    def loss_of(rows: dict) -> tuple[jax.Array, tuple[dict, Metrics]]:
      variables = {"params": rows, "batch_stats": batch_stats}
      logits, new = forward(
        module, variables, part["image"], key, gates=path.gates
      )
      loss = cross_entropy(logits, part, label_smoothing)
      return loss, (new, classification(logits, part, loss))

    return jax.grad(loss_of, has_aux=True)(path.rows)

  grads, (batch_stats, metrics) = in_parts(
    of_part, grad_accum, batch, batch_stats, key
  )
  return grads, batch_stats, metrics


def _own_paths(state, batch, draw_path, learn, tx, mesh):
  """The step with a path for each device: their gradients are averaged."""

  def on_shard(
    replicated: tuple, batch: dict
  ) -> tuple[dict, dict, dict, Metrics]:
    params, old, arch, key = replicated
    key = jax.random.fold_in(key, lax.axis_index(PATH))
    path = draw_path(params, arch, key)
    dropout_key = jax.random.fold_in(key, 1)
    grads, new, metrics = learn(path, old, dropout_key, batch)
    drawn_here = {
      name: jax.nn.one_hot(index, params[name].shape[1], dtype=bool)
      for name, index in path.drawn.items()
    }
    grads, new = mean_over_drawers((grads, new), drawn_here)
    drawn = {
      name: lax.pmax(rows, PATH)[..., None] for name, rows in drawn_here.items()
    }
    # A mean is zero where no device drew: there the statistics stay.
    for name, rows in drawn.items():
      new[name] = jnp.where(rows, new[name], old[name])
    return grads, drawn, new, lax.psum(metrics, PATH)

  key = state.step_key(WEIGHT_STREAM)
  replicated = state.params, state.batch_stats, state.arch, key
  step = over_devices(on_shard, mesh, PATH)
  grads, drawn, batch_stats, metrics = step(replicated, batch)
  # All rows that some device drew; what has no bank is on every path.
  drawn = {**dict.fromkeys(state.params, True), **drawn}
  updates, opt_state = drawn_only(tx).update(
    grads, state.opt_state, state.params, drawn=drawn
  )
  params = optax.apply_updates(state.params, updates)
  return _next(state, params, batch_stats, opt_state), metrics


def mean_over_drawers(
  trees: tuple[dict, ...], drawn: dict[str, jax.Array]
) -> tuple[dict, ...]:
  """Means over devices, each with a path of its own.

  Args:
    trees: dicts by names; under that of a bank an array f[n, k, ...], or
      f[n, 1, ...] of the drawn rows.
    drawn: bool[n, k] by the names of banks, one-hot in k: this device's draw.

  Returns:
    The same dicts. Banks are f[n, k, ...]: a row is the mean over the devices
    that drew it, zero where none did. All else is the mean over all devices.
  """

  def mean(name: str, leaf: jax.Array) -> jax.Array:
    if name not in drawn:
      return lax.pmean(leaf, PATH)
    own = drawn[name].reshape(*drawn[name].shape, *(1,) * (leaf.ndim - 2))
    count = lax.psum(own.astype(leaf.dtype), PATH)
    return lax.psum(jnp.where(own, leaf, 0), PATH) / jnp.maximum(count, 1)

  return tuple(
    {name: mean(name, leaf) for name, leaf in tree.items()} for tree in trees
  )


def _next(
  state: SearchState, params: dict, batch_stats: dict, opt_state: optax.OptState
) -> SearchState:
  return state.replace(
    step=state.step + 1,
    params=params,
    batch_stats=batch_stats,
    opt_state=opt_state,
  )
