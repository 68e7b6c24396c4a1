"""Part (c): what `lax.switch` costs on the device, and what removes it.

A program is a chain of n small steps: each a switch between two branches, or
without one the same work by `jnp.where`. What a switch costs is the slope in
n. The device's own trace counts copies to the host.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from experiments.gpu import steps
from experiments.gpu.journal import Journal, seconds_of, text_of

LENGTHS, SMALL = (4, 32), (1, 2)
FEATURES = 1 << 16


def _one(v):
  return jnp.sin(v) + 1.0


def _other(v):
  return jnp.cos(v) * 2.0


def by_switch(x, index):
  """Runs one of two branches."""
  return lax.switch(index, (_one, _other), x)


def by_where(x, index):
  """Runs both, and selects."""
  return jnp.where(index == 0, _one(x), _other(x))


def unrolled(step, x, indices):
  """A line of the program for each step."""
  for index in indices:
    # Else XLA fuses what has no switch into one kernel.
    x = lax.optimization_barrier(step(x, index))
  return x


def scanned(step, x, indices):
  """A loop over the steps."""
  return lax.scan(lambda x, i: (step(x, i), None), x, indices)[0]


FORMS = {
  "where": functools.partial(unrolled, by_where),
  "switch": functools.partial(unrolled, by_switch),
  "where in scan": functools.partial(scanned, by_where),
  "switch in scan": functools.partial(scanned, by_switch),
}


def run(journal: Journal, small: bool) -> None:
  """Microseconds of each chain, and the slope of each form."""
  lengths = SMALL if small else LENGTHS
  x = jnp.ones(FEATURES)
  for form, function in FORMS.items():
    if form in journal or journal.left <= 0:
      continue
    row, times = {}, []
    try:
      for n in lengths:
        indices = jnp.arange(n, dtype=jnp.int32) % 2
        program = jax.jit(function).lower(x, indices).compile()
        call = functools.partial(program, x, indices)
        times.append(1e6 * seconds_of(call, jax.block_until_ready))
        row[f"of {n}, us"] = times[-1]
      slope = (times[1] - times[0]) / (lengths[1] - lengths[0])
      row |= {"us a step": slope, **_traced(call)}
    except Exception as error:  # The others continue.
      row["failed"] = text_of(error)
    journal.add(form, row)


def _traced(call) -> dict:
  found = steps.traced([lambda *_: (call(), None), None, None])
  return {n: v for n, v in found.items() if n != "longest"}
