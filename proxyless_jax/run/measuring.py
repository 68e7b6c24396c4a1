"""measure(): a config and a workdir in, a measured table of costs out.

Called again with the same workdir, it goes on behind the readings in
`measure.jsonl` there.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax

from proxyless_jax.data import DataOptions, load
from proxyless_jax.hardware.check import Check
from proxyless_jax.hardware.cost import CostTable
from proxyless_jax.hardware.design import TAKEN_OVER, published_in
from proxyless_jax.hardware.energy import energy_counter, energy_meter
from proxyless_jax.hardware.journal import Reading
from proxyless_jax.hardware.measure import Plan, build_table
from proxyless_jax.hardware.onnx_runtime import onnx
from proxyless_jax.hardware.runtime import STOPWATCH, Runtime, xla
from proxyless_jax.hardware.sampling import Patience
from proxyless_jax.parallel.mesh import check_devices
from proxyless_jax.report import format_seconds, format_value
from proxyless_jax.report.scatter import draw_scatter
from proxyless_jax.run.config import fields
from proxyless_jax.run.config.measure_options import MeasureOptions
from proxyless_jax.run.config.options import parse
from proxyless_jax.run.hosts import hosts
from proxyless_jax.run.result import FILE, environment, read_result
from proxyless_jax.run.storage.compilation import keep_compiled
from proxyless_jax.run.storage.workdir import checked, make_folder, write_json
from proxyless_jax.space import Network

JOURNAL, TABLE, PICTURE = "measure.jsonl", "table.json", "predicted"
# A sample of energy is long, so that fewer of them are enough.
FEWEST_ROUNDS = {"latency": 12, "energy": 5}
# Seconds from one line of progress to the next.
EVERY = 5.0


def measure(config: Mapping[str, Any], workdir: str | os.PathLike) -> dict:
  """Measures the table of the config's space, and checks it.

  Writes table.json, which `cost_table` reads; predicted.png and .svg;
  result.json; and measure.jsonl, by which a run that was stopped goes on.

  Args:
    config: a `ConfigDict`, or nested dicts; see `configs/mnist.py`.
    workdir: folder of the run.

  Returns:
    What `result.json` holds: one flat dict.

  Raises:
    ValueError: a wrong config, or the workdir of another measurement.
    ImportError: an extra that the runtime needs is not installed.
  """
  workdir = checked(workdir)
  check_devices()
  options = parse(config)
  hosts.refuse_several("job 'measure'")
  keep_compiled()
  with fields.in_section("data", DataOptions):
    classes = options.measure.classes or load(options.data).classes
  space = options.make_space(classes)
  runtime = make_runtime(options.measure)
  make_folder(os.path.abspath(workdir))
  known = published_in(space)
  print(describe(known), file=sys.stderr, flush=True)
  table, check = build_table(
    space,
    runtime,
    make_plan(options.measure, options.seed),
    journal=os.path.join(workdir, JOURNAL),
    known=known,
    on_reading=Lines(runtime.unit),
    details=environment(),
  )
  # Whole or not at all, and without NaN.
  write_json(os.path.join(workdir, TABLE), json.loads(table.to_json()))
  draw_check(check, runtime, os.path.join(workdir, PICTURE))
  result = result_of(table, check)
  # What a search in this workdir found stays.
  result = (read_result(workdir) or {}) | result
  write_json(os.path.join(workdir, FILE), result)
  return result


def result_of(table: CostTable, check: Check) -> dict:
  """What `result.json` says of a measured table."""
  fields = {k: v for k, v in table.details.items() if k != "known"}
  result = {"job": "measure", "unit": table.unit, "source": table.source}
  result |= {**fields, "fixed": table.fixed}
  result |= {"min_cost": table.min_cost, "max_cost": table.max_cost}
  result["published"] = len(check.known)
  for name, (predicted, measured) in check.known.items():
    result[f"predicted {name}"] = predicted
    result[f"measured {name}"] = measured
    result[f"error {name}"] = predicted / measured - 1
  return result


def describe(known: Mapping[str, Network]) -> str:
  """Says which published networks a table will be checked on."""
  if not known:
    return "measure: no published network fits this space; none is checked"
  return f"measure: published networks that are checked: {', '.join(known)}"


def make_runtime(options: MeasureOptions) -> Runtime:
  """The runtime that a config names.

  Raises:
    ValueError: no counter of energy.
    ImportError: an extra that is not installed.
  """
  on_cpu = options.runtime == "onnx"
  meter = STOPWATCH
  if options.quantity == "energy":
    platform = "cpu" if on_cpu else jax.default_backend()
    meter = energy_meter(energy_counter(platform))
  if on_cpu:
    return onnx(options.batch, meter)
  return xla(options.batch, options.dtype, meter)


def make_plan(options: MeasureOptions, seed: int) -> Plan:
  """What a config says of networks and patience."""
  fewest = min(FEWEST_ROUNDS[options.quantity], options.max_rounds)
  patience = Patience(options.tolerance, fewest, options.max_rounds)
  return Plan(options.calibration, options.held_out, patience, seed)


def draw_check(check: Check, runtime: Runtime, path: str) -> None:
  """Draws a check as PNG and SVG.

  Args:
    check: of a table.
    runtime: that measured.
    path: of the files, without their endings.
  """
  figures = check.summary()
  note = (
    f"{figures['held_out']} networks that were not fitted\n"
    f"mean error {100 * figures['error_mean']:.1f} %, "
    f"largest {100 * figures['error_max']:.1f} %\n"
    f"Spearman {figures['spearman']:.3f}\n"
    f"measured again: mean difference {100 * figures['noise_mean']:.1f} %"
  )
  # In full the names would not fit into the picture.
  known = {n.replace(f" {TAKEN_OVER}", "*"): c for n, c in check.known.items()}
  if any(name.endswith("*") for name in known):
    note += f"\n* {TAKEN_OVER.strip('()')}"
  draw_scatter(
    check.predicted,
    check.measured.mean(0),
    f"{path}.svg",
    f"{path}.png",
    title=runtime.name,
    unit=check.unit,
    known=known,
    note=note,
  )


class Lines:
  """Progress, as a line on standard error now and then."""

  def __init__(self, unit: str):
    self._unit, self._printed = unit, 0.0
    self._first: tuple[int, float] | None = None

  def __call__(self, done: int, total: int, key: str, reading: Reading) -> None:
    now = time.monotonic()
    self._first = self._first or (done, now)
    if now - self._printed < EVERY and done < total:
      return
    self._printed = now
    cost = format_value(reading.cost * reading.reference, self._unit)
    text = f"measure {done}/{total}  {key.partition(' ')[0]} {cost}"
    text += f" ± {100 * reading.error:.1f} % in {reading.rounds} rounds"
    if done > self._first[0]:
      rate = (now - self._first[1]) / (done - self._first[0])
      text += f"  {format_seconds((total - done) * rate)} left"
    print(text, file=sys.stderr, flush=True)
