"""Part (d): the table of latencies of the ImageNet space on the device.

By `proxyless_jax.hardware.measure`: every block alone, then a fit to whole
networks, and a check on others. Programs of all networks are made side by side
before the first is timed.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from concurrent import futures

import jax

from experiments import workloads
from experiments.gpu.journal import THREADS, Journal
from proxyless_jax.hardware import measure
from proxyless_jax.hardware.runtime import Runtime, from_function, xla
from proxyless_jax.hardware.sampling import Patience
from proxyless_jax.space import Network, macs

BATCHES = (1, 32)
PLAN = measure.Plan(10, 10, Patience(0.01, 6, 24))
SMALL = measure.Plan(4, 2, Patience(1.0, 1, 1))


def run(journal: Journal, small: bool, folder: pathlib.Path) -> None:
  """A table for each batch: a JSON file of it, and a row with its check.

  Args:
    journal: journal of the part.
    small: whether to measure a small space, without patience.
    folder: folder for tables, and for the journals of readings.
  """
  space = small_space() if small else workloads.imagenet()
  dtype = "float32" if small else "bfloat16"
  for batch in (1,) if small else BATCHES:
    key = f"batch {batch}"
    if key in journal or journal.left <= 0:
      continue
    plan = SMALL if small else PLAN
    runtime = ahead(xla(batch, dtype), networks_of(space, plan), journal)
    if journal.left <= 0:
      journal.log("the budget ended")
      return
    table, check = measure.build_table(
      space,
      runtime,
      plan,
      journal=folder / f"latency_{dtype}_batch{batch}.jsonl",
    )
    device = jax.devices()[0].device_kind
    table.to_json(folder / f"latency_{dtype}_batch{batch}.json")
    row = {"device": device, "dtype": dtype, **check.summary()}
    row |= {"min_ms": table.min_cost, "max_ms": table.max_cost}
    journal.add(key, row)


def small_space() -> Network:
  """Enough architectures for the small plan."""
  tiny = workloads.tiny()
  return dataclasses.replace(tiny, edges=_three(tiny.edges[0]))


def _three(edge):
  return tuple(dataclasses.replace(edge, name=f"block{i}") for i in range(3))


def networks_of(space: Network, plan: measure.Plan) -> list[Network]:
  """All that `build_table` would measure, in its order."""
  seen = []

  def look(network: Network) -> float:
    seen.append(network)
    return 1.0 + macs(network)

  measure.build_table(space, from_function("none", look), plan)
  return seen


def ahead(
  runtime: Runtime, networks: list[Network], journal: Journal
) -> Runtime:
  """A runtime that has prepared all these networks before, side by side.

  A network that comes twice is prepared twice: each pass of a check wants
  programs of its own.
  """
  pool = futures.ThreadPoolExecutor(THREADS)
  jobs = collections.defaultdict(list)
  for network in networks:
    jobs[network].append(pool.submit(runtime.prepare, network))
  waiting = [job for own in jobs.values() for job in own]
  done, late = futures.wait(waiting, timeout=max(1.0, journal.left))
  pool.shutdown(wait=False, cancel_futures=True)
  journal.log(f"{len(done)} programs ready, {len(late)} not")

  def prepare(network: Network):
    own = jobs[network]
    return own.pop().result() if own else runtime.prepare(network)

  return dataclasses.replace(runtime, prepare=prepare)
