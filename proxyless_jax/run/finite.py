"""Whether a run still computes with finite numbers, and the error if not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from proxyless_jax.training.metrics import Metrics


def probes(state: Any, metrics: Metrics) -> dict[str, float]:
  """Numbers that are finite where all of a state and of its metrics are."""
  sums = {name: float(mean.total) for name, mean in metrics.items()}
  return {"the state": 0.0 if _all_finite(state) else math.nan, **sums}


@jax.jit
def _all_finite(tree):
  leaves = [
    jnp.all(jnp.isfinite(leaf))
    for leaf in jax.tree.leaves(tree)
    if jnp.issubdtype(leaf.dtype, jnp.floating)
  ]
  return jnp.all(jnp.array(leaves))


def check_finite(
  stage: str, values: Mapping[str, float], good: int, step: int, saved: int
) -> None:
  """Checks that values are finite.

  Args:
    stage: name of the stage.
    values: values at `step`, by name.
    good: the last step at which all values were finite.
    step: number of steps taken.
    saved: step of the newest checkpoint; 0 for none.

  Raises:
    FloatingPointError: one is NaN or infinite; names it, and what to do.
  """
  wrong = [name for name, x in values.items() if not math.isfinite(x)]
  if wrong:
    checkpoint = (
      f"that of step {saved} is kept" if saved else "there is none yet"
    )
    raise FloatingPointError(
      f"stage {stage}, steps {good + 1} to {step}: {', '.join(wrong)} "
      "became NaN or infinite, so the run stopped (last good checkpoint: "
      f"{checkpoint}); look at the data, or start in a new workdir with lower "
      f"learning rates in config.{stage}"
    )
