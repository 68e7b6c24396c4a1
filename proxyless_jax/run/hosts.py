"""The hosts of a run."""

from __future__ import annotations

import jax


def first() -> bool:
  """Whether this is the host that prints and writes."""
  return jax.process_index() == 0
