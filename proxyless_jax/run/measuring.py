"""Measuring a table of costs: runtime, plan, progress and files of the job.

Readings are kept in `measure.jsonl` of the workdir; a job that was stopped
resumes after the last of them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax

from proxyless_jax.hardware.check import Check
from proxyless_jax.hardware.cost import CostTable
from proxyless_jax.hardware.design import TAKEN_OVER, published_in
from proxyless_jax.hardware.energy import energy_counter, energy_meter
from proxyless_jax.hardware.journal import Reading
from proxyless_jax.hardware.measure import Plan, build_table
from proxyless_jax.hardware.onnx_runtime import onnx
from proxyless_jax.hardware.runtime import STOPWATCH, Runtime, xla
from proxyless_jax.hardware.sampling import Patience
from proxyless_jax.report import format_seconds, format_value
from proxyless_jax.report.scatter import draw_scatter
from proxyless_jax.run.config.measure_options import MeasureOptions
from proxyless_jax.run.result import FILE, environment, read_result
from proxyless_jax.run.storage.json_files import write_json
from proxyless_jax.run.storage.workdir import make_folder
from proxyless_jax.space import Network

JOURNAL, TABLE, PICTURE = "measure.jsonl", "table.json", "predicted"
# A sample of energy takes longer, so that fewer of them are enough.
FEWEST_ROUNDS = {"latency": 12, "energy": 5}
# Seconds between lines of progress.
EVERY = 5.0


def measure_space(
  space: Network,
  options: MeasureOptions,
  workdir: str | os.PathLike,
  *,
  seed: int,
) -> dict:
  """Measures the table of a space, checks it, and writes the files of the job.

  Args:
    space: space whose candidates are measured.
    options: quantity, runtime and precision of the measurement.
    workdir: folder of the run, made where it is missing.
    seed: seed of the networks that are measured.

  Returns:
    The contents of `result.json`: one flat dict.

  Raises:
    ValueError: the workdir has another measurement, or there is no counter of
      energy.
    ImportError: an extra that the runtime needs is not installed.
  """
  runtime = make_runtime(options)
  make_folder(os.path.abspath(workdir))
  known = published_in(space)
  print(describe(known), file=sys.stderr, flush=True)
  table, check = build_table(
    space,
    runtime,
    make_plan(options, seed),
    journal=os.path.join(workdir, JOURNAL),
    known=known,
    on_reading=Lines(runtime.unit),
    details=environment(),
  )
  # JSON of a table may have NaN, which `write_json` would refuse.
  write_json(os.path.join(workdir, TABLE), json.loads(table.to_json()))
  draw_check(check, runtime, os.path.join(workdir, PICTURE))
  for warning in check.warnings():
    print(f"measure: warning: {warning}", file=sys.stderr, flush=True)
  # The result of a search in this workdir stays.
  result = (read_result(workdir) or {}) | result_of(table, check)
  write_json(os.path.join(workdir, FILE), result)
  return result


def result_of(table: CostTable, check: Check) -> dict:
  """The fields of `result.json` for a measured table."""
  fields = {k: v for k, v in table.details.items() if k != "known"}
  result: dict[str, Any] = {"job": "measure"}
  result |= {"unit": table.unit, "source": table.source}
  result |= {**fields, "fixed": table.fixed}
  result |= {"min_cost": table.min_cost, "max_cost": table.max_cost}
  result["published"] = len(check.known)
  for name, (predicted, measured) in check.known.items():
    result[f"predicted {name}"] = predicted
    result[f"measured {name}"] = measured
    result[f"error {name}"] = predicted / measured - 1
  return result


def describe(known: Mapping[str, Network]) -> str:
  """A line that names the published networks that a table is checked on."""
  if not known:
    return "measure: no published network fits this space; none is checked"
  return f"measure: published networks that are checked: {', '.join(known)}"


def make_runtime(options: MeasureOptions) -> Runtime:
  """The runtime that a config names.

  Raises:
    ValueError: there is no counter of energy.
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
  """The number of networks and the precision that a config asks for."""
  fewest = min(FEWEST_ROUNDS[options.quantity], options.max_rounds)
  patience = Patience(options.tolerance, fewest, options.max_rounds)
  return Plan(options.calibration, options.held_out, patience, seed)


def draw_check(check: Check, runtime: Runtime, path: str) -> None:
  """Draws a check as PNG and SVG.

  Args:
    check: check of a table.
    runtime: runtime that measured it.
    path: path of the files, without their endings.
  """
  figures = check.summary()
  note = (
    f"{figures['held_out']} networks that were not fitted\n"
    f"mean error {100 * figures['error_mean']:.1f} %, "
    f"largest {100 * figures['error_max']:.1f} %\n"
    f"Spearman {figures['spearman']:.3f}\n"
    f"measured again: mean difference {100 * figures['noise_mean']:.1f} %"
  )
  # The full names are long.
  known = {n.replace(f" {TAKEN_OVER}", "*"): c for n, c in check.known.items()}
  if any(name.endswith("*") for name in known):
    note += f"\n* {TAKEN_OVER.strip('()')}"
  draw_scatter(
    check.predicted.tolist(),
    check.measured.mean(0).tolist(),
    f"{path}.svg",
    f"{path}.png",
    title=runtime.name,
    unit=check.unit,
    known=known,
    note=note,
    warnings=check.warnings(),
  )


class Lines:
  """Progress, as a line on standard error every few seconds."""

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
