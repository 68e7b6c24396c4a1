"""A supernet with all candidates in memory, as DARTS trains it.

    m(x) = sum_j p_j * o_j(x),   p = softmax(alpha)

(Liu, Simonyan, Yang, ICLR 2019, equation 2.) The candidates are the package's
own operations, under autodiff; weights and alpha learn from the same batch, in
one backward pass. DARTS takes alpha's gradient on held-out images, a second
pass of the same size or more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nn import build, init
from proxyless_jax.nn.ops.base import make
from proxyless_jax.space import Chain, Edge
from proxyless_jax.training.metrics import (
  Metrics,
  classification,
  cross_entropy,
)


class DenseEdge(nn.Module):
  """The weighted sum of all candidates' outputs, without the shortcut."""

  edge: Edge

  @nn.compact
  def __call__(self, x: jax.Array, weights: jax.Array, train: bool):
    y = jnp.zeros(())
    for op, weight in zip(self.edge.ops, weights):
      module = make(op, self.edge, name=op.name, bn_momentum=0.9, dropout=0.0)
      y += weight * module(x, train)
    return y


class DenseModule(nn.Module):
  """A chain whose searched edges compute all their candidates.

  Attributes:
    network: the search space.
  """

  network: Chain

  @nn.compact
  def __call__(self, images: jax.Array, probs: jax.Array, train: bool):
    """Logits f[b, classes].

    Args:
      images: f[b, h, w, c].
      probs: f[e, k], weight of each candidate of each searched edge.
      train: whether to use the batch's statistics.
    """
    x = images
    searched = {edge.name: i for i, edge in enumerate(self.network.edges)}
    for edge in self.network.layers:
      row = searched.get(edge.name)
      weights = jnp.ones(1) if row is None else probs[row]
      y = DenseEdge(edge, name=edge.name)(x, weights, train)
      x = x + y if edge.shortcut else y
    return x


class DenseState(flax.struct.PyTreeNode):
  """What a dense search carries from step to step."""

  params: Any
  batch_stats: Any
  opt_state: optax.OptState
  arch: jax.Array
  arch_opt_state: optax.OptState


def of_all_candidates(
  space: Chain, variables_of: Callable[[int, Chain], dict]
) -> dict:
  """Variables of all candidates, under their edges' and their own names.

  Args:
    space: the search space.
    variables_of: function from a number and a network to the variables of the
      network: for each j that with the candidate j on every edge, or the last.
  """
  variables: dict[str, dict] = {"params": {}, "batch_stats": {}}
  for j in range(max(len(edge.ops) for edge in space.edges)):
    network = space.choose([min(j, len(e.ops) - 1) for e in space.edges])
    for collection, edges in variables_of(j, network).items():
      for edge, candidates in edges.items():
        variables[collection].setdefault(edge, {}).update(candidates)
  return variables


def dense_variables(space: Chain, key: jax.Array) -> dict:
  """Initial variables of all candidates."""
  return of_all_candidates(
    space, lambda j, network: init(build(network), jax.random.fold_in(key, j))
  )


def dense_state(
  space: Chain,
  key: jax.Array,
  tx: optax.GradientTransformation,
  arch_tx: optax.GradientTransformation,
) -> DenseState:
  """The state before the first step: alpha is zero."""
  variables = dense_variables(space, key)
  arch = jnp.zeros(gates_lib.valid_candidates(space).shape)
  return DenseState(
    **variables,
    opt_state=tx.init(variables["params"]),
    arch=arch,
    arch_opt_state=arch_tx.init(arch),
  )


def dense_step(
  state: DenseState,
  batch: dict,
  *,
  module: DenseModule,
  tx: optax.GradientTransformation,
  arch_tx: optax.GradientTransformation,
  label_smoothing: float,
) -> tuple[DenseState, Metrics]:
  """Trains the weights of all candidates, and alpha."""
  valid = gates_lib.valid_candidates(module.network)

  def loss_of(learned: tuple) -> tuple[jax.Array, tuple[dict, Metrics]]:
    params, arch = learned
    logits, mutated = module.apply(
      {"params": params, "batch_stats": state.batch_stats},
      batch["image"],
      gates_lib.probabilities(arch, valid),
      True,
      mutable=["batch_stats"],
    )
    loss = cross_entropy(logits, batch, label_smoothing)
    return loss, (mutated, classification(logits, batch, loss))

  learned = state.params, state.arch
  grads, (mutated, metrics) = jax.grad(loss_of, has_aux=True)(learned)
  updates, opt_state = tx.update(grads[0], state.opt_state, state.params)
  moved, arch_opt_state = arch_tx.update(
    grads[1], state.arch_opt_state, state.arch
  )
  state = DenseState(
    params=optax.apply_updates(state.params, updates),
    batch_stats=mutated["batch_stats"],
    opt_state=opt_state,
    arch=optax.apply_updates(state.arch, moved),
    arch_opt_state=arch_opt_state,
  )
  return state, metrics
