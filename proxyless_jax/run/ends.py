"""Whether a search was long enough: what it says of itself at its end."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from proxyless_jax.nas import gates
from proxyless_jax.run.config.sections import SearchOptions

# A search that has decided has less than this part of its first entropy.
UNDECIDED = 0.5
# Nearer to chance than this, accuracies of paths say nothing about them.
NEAR_CHANCE = 0.1


def describe_end(
  search: SearchOptions,
  arch: np.ndarray,
  valid: np.ndarray,
  metrics: Sequence[Mapping],
  classes: int,
) -> dict:
  """How a search ended, with a warning for each sign that it was too short.

  Args:
    search: options of the search.
    arch: f32[e, k], alpha at the end.
    valid: bool[e, k], the candidates that exist.
    metrics: lines of `metrics.jsonl`.
    classes: number of classes.

  Returns:
    Entries of the result: 'entropy_start' and 'entropy_end', means over the
    edges in nats; 'supernet_top1', the accuracy of drawn paths on held-out
    images since the last log, where it was logged; 'unfinished', the warnings,
    or ''.
  """
  valid = jnp.asarray(valid)
  start, end = (
    float(jnp.mean(gates.entropy(jnp.asarray(alpha), valid)))
    for alpha in (jnp.zeros(valid.shape), arch)
  )
  found: dict = {"entropy_start": start, "entropy_end": end}
  signs = []
  if end > UNDECIDED * start:
    signs.append(
      f"the gates' entropy ended at {end:.2f} nats, above {UNDECIDED:g} of its "
      f"start, {start:.2f}, so that noise had a part in the choice: raise "
      f"search.arch.lr = {search.arch.lr:g} or search.epochs = "
      f"{search.epochs:g}, or lower search.arch.every = {search.arch.every}"
    )
  seen = [line["arch_top1"] for line in metrics if "arch_top1" in line]
  chance = 1.0 / classes
  if seen:
    found["supernet_top1"] = top1 = float(seen[-1])
    if top1 < chance + min(chance, NEAR_CHANCE):
      signs.append(
        f"drawn paths classified {100 * top1:.1f} % of the held-out images at "
        f"the end, near chance, {100 * chance:.1f} %: their losses say little "
        f"about architectures: raise search.warmup_epochs = "
        f"{search.warmup_epochs:g} or search.epochs = {search.epochs:g}"
      )
  for sign in signs:
    warnings.warn(f"the search was too short: {sign}", stacklevel=2)
  return {**found, "unfinished": "; ".join(signs)}
