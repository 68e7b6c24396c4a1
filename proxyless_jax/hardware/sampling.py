"""Costs of many networks, measured in turn, to a wanted precision.

Clocks, heat and other programs change the speed of a machine from second to
second. So each visit of a network follows one of the reference network, and
their quotient counts:

    q_r  = min of the network's samples / min of the reference's, in round r
    cost = median_r q_r
    error = 1.2533 * 1.4826 * median_r |log q_r - log cost| / sqrt(rounds)

which is the standard error of a median of normal noise, with the deviation
estimated by a median too: bursts of other load move neither. A network is
visited until `error` is below the tolerance, or for `most_rounds` rounds.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping

import numpy as np

from proxyless_jax.hardware.journal import Journal, Reading
from proxyless_jax.hardware.runtime import Runtime
from proxyless_jax.space import Network

# Networks in memory at once, measured in turn.
GROUP = 8
# Standard error of a median over that of a mean, times standard deviation over
# median deviation, both for normal noise.
MEDIAN_ERROR = 1.2533 * 1.4826

Sample = Callable[[], float]


@dataclasses.dataclass(frozen=True)
class Patience:
  """The criterion for the end of a reading.

  Attributes:
    tolerance: relative standard error that suffices.
    fewest_rounds, most_rounds: limits of the number of visits of a network.
  """

  tolerance: float = 0.004
  fewest_rounds: int = 12
  most_rounds: int = 100

  def __post_init__(self) -> None:
    if not self.tolerance > 0:
      raise ValueError(
        f"tolerance = {self.tolerance}: expected a positive number"
      )
    if not 0 < self.fewest_rounds <= self.most_rounds:
      raise ValueError(
        f"fewest_rounds = {self.fewest_rounds}, most_rounds = "
        f"{self.most_rounds}: expected 1 or more, in this order"
      )


class Bench:
  """Measures networks beside one reference, into a journal."""

  def __init__(
    self,
    runtime: Runtime,
    reference: Network,
    journal: Journal,
    on_reading: Callable[[str, Reading], None],
    seed: int,
  ) -> None:
    """A bench without networks.

    Args:
      runtime: runtime that runs the networks.
      reference: network that all others are compared with.
      journal: journal with the readings so far, which gets the new ones.
      on_reading: function called with the key and the reading of each new one.
      seed: seed of the order in a round.
    """
    self._runtime, self._reference = runtime, reference
    self._journal = journal
    self._on_reading = on_reading
    self._rng = np.random.default_rng(seed)
    self._sample_reference: Sample | None = None
    self._last = time.perf_counter()

  def measure(
    self, networks: Mapping[str, Network], patience: Patience
  ) -> None:
    """Measures those networks, by key, that the journal lacks."""
    todo = [(k, n) for k, n in networks.items() if k not in self._journal]
    for start in range(0, len(todo), GROUP):
      group = dict(todo[start : start + GROUP])
      if self._runtime.settled:
        for key, network in group.items():
          self._keep(key, self._settled(network))
      else:
        self._measure_group(group, patience)

  def _settled(self, network: Network) -> Reading:
    return Reading(float(self._runtime.prepare(network)()), 0.0, 1.0, 1)

  def _keep(self, key: str, reading: Reading) -> None:
    if not (np.isfinite(reading.cost) and reading.cost >= 0):
      raise ValueError(
        f"runtime {self._runtime.name!r} gave {reading.cost} for {key}: "
        "expected a finite number of 0 or more"
      )
    # A block alone may cost nothing; a network may not.
    if reading.reference <= 0 or (
      reading.cost <= 0 and not key.startswith("alone ")
    ):
      zero = "the reference network" if reading.reference <= 0 else key
      raise ValueError(
        f"runtime {self._runtime.name!r} counted 0 {self._runtime.unit} for "
        f"{zero}: does its counter move?"
      )
    now = time.perf_counter()
    seconds, self._last = round(now - self._last, 3), now
    reading = dataclasses.replace(reading, seconds=seconds)
    self._journal.add(key, reading)
    self._on_reading(key, reading)

  def _measure_group(
    self, group: Mapping[str, Network], patience: Patience
  ) -> None:
    if self._sample_reference is None:
      self._sample_reference = self._runtime.prepare(self._reference)
    samples = {k: self._runtime.prepare(n) for k, n in group.items()}
    pairs: dict[str, list[tuple[float, float]]] = {key: [] for key in samples}
    while samples:
      for i in self._rng.permutation(len(samples)):
        key = list(samples)[i]
        beside = self._visit(self._sample_reference)
        pairs[key].append((self._visit(samples[key]), beside))
      for key in list(samples):
        reading = summarise(pairs[key])
        if is_enough(reading, patience):
          del samples[key]
          self._keep(key, reading)

  def _visit(self, sample: Sample) -> float:
    values = [sample() for _ in range(self._runtime.samples)]
    return min(values[1:] or values)


def summarise(pairs: list[tuple[float, float]]) -> Reading:
  """The reading of a network's and the reference's costs, round by round."""
  own, beside = np.array(pairs).T
  # Counters of energy may not have moved in a round.
  logs = np.log(np.maximum(own, 1e-12) / np.maximum(beside, 1e-12))
  middle = np.median(logs)
  deviation = np.median(np.abs(logs - middle))
  error = MEDIAN_ERROR * deviation / np.sqrt(len(logs))
  cost = float(np.exp(middle)) if np.median(own) > 0 else 0.0
  return Reading(cost, float(error), float(np.median(beside)), len(logs))


def is_enough(reading: Reading, patience: Patience) -> bool:
  """Whether a network needs no more visits."""
  if reading.rounds < patience.fewest_rounds:
    return False
  settled = reading.error <= patience.tolerance
  return settled or reading.rounds >= patience.most_rounds
