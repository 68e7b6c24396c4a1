"""How many steps a search takes, and a rule of thumb for it.

The rule, for `search.warmup_epochs` and `search.epochs` that are 'auto':

- In the warm-up each candidate is trained in `UPDATES` steps. With the paths of
  a batch spread evenly over k candidates, that is `UPDATES * k / paths` steps.
- Adam moves a logit by about the learning rate in each step, in a direction
  that noise mostly decides; for the gates to decide, the rate times the number
  of architecture steps should be `TRAVEL`. The additive model and evolution
  (`derive.method`) do without architecture steps: there it is none.

docs/searching.md says what is measured about them, and what is a guess.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from proxyless_jax.run.config.sections import SearchOptions

UPDATES = 2000
TRAVEL = 20.0


class Lengths(NamedTuple):
  """The steps at which the warm-up ends, alpha begins, and the search ends."""

  warmup: int
  begin: int
  end: int


def search_lengths(
  search: SearchOptions, images: int, candidates: int, derives: str
) -> Lengths:
  """The steps of a search.

  Args:
    search: options of the search.
    images: number of images in the weights' split.
    candidates: largest number of candidates of an edge.
    derives: `derive.method`.

  Raises:
    ValueError: no step would train the architecture.
  """
  epoch = images / search.batch
  if isinstance(search.warmup_epochs, str):  # 'auto'.
    warmup = math.ceil(UPDATES * candidates / search.paths)
  else:
    warmup = round(search.warmup_epochs * epoch)
  automatic = isinstance(search.epochs, str)
  if search.epochs == 0.0 or (automatic and derives != "argmax"):
    steps = max(1, warmup)
    return Lengths(steps, steps, steps)
  begin = warmup + math.ceil(search.arch.after_epochs * epoch)
  if isinstance(search.epochs, str):
    end = begin + math.ceil(TRAVEL / search.arch.lr) * search.arch.every
  else:
    end = warmup + max(1, round(search.epochs * epoch))
  if begin >= end:
    raise ValueError(
      f"search.arch.after_epochs = {search.arch.after_epochs}: expected below "
      f"search.epochs = {search.epochs} by a step or more, else no step trains "
      "the architecture"
    )
  return Lengths(warmup, begin, end)
