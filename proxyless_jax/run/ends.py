"""Whether a search was long enough: what it says of itself at its end."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from proxyless_jax.nas import gates
from proxyless_jax.run.config.options import Options

# A search that has decided has less than this part of its first entropy.
UNDECIDED = 0.5
# Nearer to chance than this, accuracies of paths say nothing about them.
NEAR_CHANCE = 0.1


def describe_end(
  options: Options,
  arch: np.ndarray,
  valid: np.ndarray,
  metrics: Sequence[Mapping],
  chance: float,
  top1: float | None = None,
) -> dict:
  """How a search ended, with a warning for each sign that it was too short.

  Args:
    options: options of the run.
    arch: f32[e, k], alpha at the end.
    valid: bool[e, k], the candidates that exist.
    metrics: lines of `metrics.jsonl`.
    chance: accuracy of always naming the most frequent class.
    top1: mean accuracy of the paths that were evaluated; None where none were.

  Returns:
    Entries of the result: 'entropy_start' and 'entropy_end', means over the
    edges in nats; 'supernet_top1', `top1`, or the accuracy of drawn paths on
    held-out images since the last log; 'unfinished', the warnings, or ''.
  """
  start, end = (
    float(jnp.mean(gates.entropy(jnp.asarray(alpha), jnp.asarray(valid))))
    for alpha in (np.zeros(valid.shape, np.float32), arch)
  )
  found: dict = {"entropy_start": start, "entropy_end": end}
  seen = [line["arch_top1"] for line in metrics if "arch_top1" in line]
  if top1 is None and seen:
    top1 = float(seen[-1])
  signs = []
  # The other methods do without alpha.
  if options.derive.method == "argmax" and not end <= UNDECIDED * start:
    signs.append(_undecided(options, start, end))
  if top1 is not None:
    found["supernet_top1"] = top1
    above = min(chance, NEAR_CHANCE, (1.0 - chance) / 2)
    if not top1 >= chance + above:
      signs.append(_near_chance(options, top1, chance))
  for sign in signs:
    warnings.warn(f"the search was too short: {sign}", stacklevel=2)
  return {**found, "unfinished": "; ".join(signs)}


def _undecided(options: Options, start: float, end: float) -> str:
  search = options.search
  longer = _longer("search.epochs", search.epochs)
  if not isinstance(search.epochs, str):  # Else a faster rate shortens it.
    longer = f"raise search.arch.lr = {search.arch.lr:g}, or {longer}"
  return (
    f"the gates' entropy ended at {end:.2f} nats, above {UNDECIDED:g} of its "
    f"start, {start:.2f}, so that noise had a part in the choice: {longer}, or "
    f"lower search.arch.every = {search.arch.every}; or set derive.method = "
    "'additive', which does not use the gates"
  )


def _near_chance(options: Options, top1: float, chance: float) -> str:
  search = options.search
  return (
    f"paths classified {100 * top1:.1f} % of the held-out images at the end, "
    f"near chance, {100 * chance:.1f} %, so that their losses say little about "
    "architectures: "
    + _longer("search.warmup_epochs", search.warmup_epochs)
    + " or "
    + _longer("search.epochs", search.epochs)
  )


def _longer(field: str, value: float | str) -> str:
  """What to do for a longer search."""
  if isinstance(value, str):  # 'auto'.
    return f"set {field}, now {value!r}, to more epochs than the search took"
  return f"raise {field} = {value}"
