"""Steps of a warm-up in which every candidate takes part, as in TuNAS.

An edge's output is the mean of its candidates' (op warm-up: Bender et al.,
CVPR 2020): so that none is drawn for the first time when the others have
learned for long. The supernet's banks are trained, with the dense supernet's
forward pass.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from experiments.dense import DenseModule, of_all_candidates
from proxyless_jax.nas import gates as gates_lib
from proxyless_jax.nas.state import SearchState
from proxyless_jax.nn import inherit
from proxyless_jax.space import Chain
from proxyless_jax.training.metrics import (
  Metrics,
  classification,
  cross_entropy,
)


def named_candidates(space: Chain, variables: dict) -> dict:
  """Variables of all candidates under their edges' and their own names.

  Args:
    space: the search space.
    variables: {'params', 'batch_stats'} of its supernet, in banks.
  """
  return of_all_candidates(
    space, lambda _, network: inherit(space, variables, network)
  )


def dense_step(
  state: SearchState,
  batch: dict,
  *,
  space: Chain,
  tx: optax.GradientTransformation,
  label_smoothing: float,
) -> tuple[SearchState, Metrics]:
  """Trains the weights of all candidates; moving statistics stay.

  A supernet's paths are scored with the statistics of their images, so that
  nothing reads the moving ones.
  """
  valid = jnp.asarray(gates_lib.valid_candidates(space))
  weights = valid / valid.sum(axis=1, keepdims=True)

  def loss_of(params: dict) -> tuple[jax.Array, Metrics]:
    variables = {"params": params, "batch_stats": state.batch_stats}
    logits, _ = DenseModule(space).apply(
      named_candidates(space, variables),
      batch["image"],
      weights,
      True,
      mutable=["batch_stats"],
    )
    loss = cross_entropy(logits, batch, label_smoothing)
    return loss, classification(logits, batch, loss)

  grads, metrics = jax.grad(loss_of, has_aux=True)(state.params)
  updates, opt_state = tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  new = state.replace(step=state.step + 1, params=params, opt_state=opt_state)
  return new, metrics
