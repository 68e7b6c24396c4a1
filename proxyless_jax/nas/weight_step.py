"""The weight step: draw a path, train its weights and nothing else.

    path ~ softmax(alpha),   w <- T(w, dL(path, w) / dw)   on the path's weights

Devices share the path, each with its share of the batch: the step is that of
one device with the whole batch, and they exchange the gradient of one path.

With `paths` = m the batch is m paths', each with its part of it, one after the
other. With `path_per_device` each of n devices draws paths from the same alpha,
and runs them on its share of the batch, with the batch-norm moments of that
share; devices exchange gradients of all candidates for it, not of one path.
Either way, with g_i of path i,

    weights of a bank's row:  mean of g_i over the paths that drew it
    all other weights:        mean of g_i over all paths

Each g_i has the expectation of the gradient of one path by itself, so their
mean has it too, and the draws' part of its variance is 1 / n of theirs, or
less: paths of one batch are spread evenly over the candidates.
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
from proxyless_jax.nn.supernet.rows import drawn_rows, get_path, select_rows
from proxyless_jax.parallel.collectives import DATA, PATH, over_devices, psum
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
  paths: int = 1,
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
    paths: number of paths, each with its part of the batch; see
      `gates.draw_several`.
    mesh: devices that share the batch; None for one device.
    path_per_device: whether each device of the mesh draws paths of its own.
  """
  learn = functools.partial(
    path_gradients,
    module=module,
    label_smoothing=label_smoothing,
    grad_accum=grad_accum,
  )
  network, own = module.network, path_per_device and mesh is not None
  if paths > 1 or own:
    several = dict(valid=valid, draw=draw, paths=paths, network=network)
    gradients = functools.partial(_mean_gradients, learn=learn, **several)
    return _several_paths(state, batch, gradients, tx, mesh, own)
  key = state.step_key(WEIGHT_STREAM)
  # Drawn before the devices part: of a sharded state the rows alone travel.
  gates = lax.stop_gradient(draw(key, state.arch, valid, "full"))
  path = _path(network, state.params, gates)

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


def _path(network, params, gates) -> Path:
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


def _several_paths(state, batch, gradients, tx, mesh, own):
  """The step with several paths, whose gradients are averaged.

  Args:
    state, batch, tx, mesh: as for `weight_step`.
    gradients: `_mean_gradients`, of (params, batch_stats, arch, key, batch).
    own: whether each device has paths of its own.
  """

  def on_shard(
    replicated: tuple, batch: dict
  ) -> tuple[dict, dict, dict, Metrics]:
    *variables, key = replicated
    if not own:
      grads, drawn, new, metrics = gradients(*variables, key, batch)
      return grads, drawn, new, psum(metrics)
    key = jax.random.fold_in(key, lax.axis_index(PATH))
    grads, drawn, new, metrics = gradients(*variables, key, batch)
    new = mean_over_drawers(new, drawn)
    grads, drawn = lax.pmean((grads, drawn), PATH)
    return grads, drawn, new, lax.psum(metrics, PATH)

  key = state.step_key(WEIGHT_STREAM)
  replicated = state.params, state.batch_stats, state.arch, key
  step = over_devices(on_shard, mesh, PATH if own else DATA)
  grads, drawn, batch_stats, metrics = step(replicated, batch)
  # Means over all paths become means over those that drew a row.
  rows = {name: part[..., None] > 0 for name, part in drawn.items()}
  for name, part in drawn.items():
    grads[name] /= jnp.where(rows[name], part[..., None], 1)
    # A mean is zero where no device drew: there the statistics stay.
    batch_stats[name] = jnp.where(
      rows[name], batch_stats[name], state.batch_stats[name]
    )
  # What has no bank is on every path.
  rows = {**dict.fromkeys(state.params, True), **rows}
  updates, opt_state = drawn_only(tx).update(
    grads, state.opt_state, state.params, drawn=rows
  )
  params = optax.apply_updates(state.params, updates)
  return _next(state, params, batch_stats, opt_state), metrics


def _mean_gradients(
  params, batch_stats, arch, key, batch, *, valid, draw, paths, network, learn
):
  """Gradients of several paths, each on its part of a batch.

  Args:
    params, batch_stats, arch: of the state.
    key: PRNG key of the draws and of dropout.
    batch: images and labels; or a device's share of them.
    valid, draw, paths: as for `weight_step`.
    network: the search space.
    learn: `path_gradients` of (path, batch_stats, key, batch).

  Returns:
    Gradients as means over the paths, of banks f[n, k, length], zero where a
    path did not draw; the part f[n, k] of the paths that drew a row, by the
    names of banks; new batch-norm statistics; metrics.
  """
  several = gates_lib.draw_several(key, arch, valid, paths, draw)
  several = lax.stop_gradient(several)

  def of_path(
    part: dict, carry: tuple, key: jax.Array
  ) -> tuple[tuple[dict, dict], tuple[tuple, Metrics]]:
    batch_stats, number = carry
    gates = jax.tree.map(lambda leaf: leaf[number], several)
    path = _path(network, params, gates)
    grads, batch_stats, metrics = learn(path, batch_stats, key, part)
    grads = dict(psum_gradients(grads, network, path.drawn))
    drawn = {}
    for name, of_edges in path.drawn.items():
      nothing = jnp.zeros_like(params[name])
      grads[name] = select_rows(of_edges, grads[name], nothing)
      drawn[name] = jax.nn.one_hot(of_edges, nothing.shape[1])
    return (grads, drawn), ((batch_stats, number + 1), metrics)

  (grads, drawn), ((batch_stats, _), metrics) = in_parts(
    of_path, paths, batch, (batch_stats, 0), jax.random.fold_in(key, 1)
  )
  return grads, drawn, batch_stats, metrics


def mean_over_drawers(tree: dict, drawn: dict[str, jax.Array]) -> dict:
  """Means over devices, each with paths of its own.

  Args:
    tree: arrays by names; under that of a bank f[n, k, ...].
    drawn: f[n, k] by the names of banks, above 0 where this device drew.

  Returns:
    The same dict. A row of a bank is the mean over the devices that drew it,
    zero where none did. All else is the mean over all devices.
  """

  def mean(name: str, leaf: jax.Array) -> jax.Array:
    if name not in drawn:
      return lax.pmean(leaf, PATH)
    own = drawn[name] > 0
    own = own.reshape(*own.shape, *(1,) * (leaf.ndim - 2))
    count = lax.psum(own.astype(leaf.dtype), PATH)
    return lax.psum(jnp.where(own, leaf, 0), PATH) / jnp.maximum(count, 1)

  return {name: mean(name, leaf) for name, leaf in tree.items()}


def _next(
  state: SearchState, params: dict, batch_stats: dict, opt_state: optax.OptState
) -> SearchState:
  return state.replace(
    step=state.step + 1,
    params=params,
    batch_stats=batch_stats,
    opt_state=opt_state,
  )
