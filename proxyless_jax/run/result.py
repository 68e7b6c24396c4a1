"""result.json: the result of a run, as one flat object."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import sys

import jax

from proxyless_jax.report.tensorboard import write_result_events
from proxyless_jax.run.reporting import keep_report
from proxyless_jax.run.storage.json_files import read_fields, write_json
from proxyless_jax.space import Network, macs, parameters

FILE = "result.json"
PACKAGES = ("proxyless-jax", "jax", "flax", "optax", "orbax-checkpoint")


def write_result(
  workdir: str | os.PathLike,
  *,
  job: str,
  network: Network,
  scores: dict[str, float],
  seconds: dict[str, float],
  more: dict[str, float],
) -> dict:
  """Writes and returns the result, and the report with it.

  Of several hosts, one calls.

  Args:
    workdir: folder of the run.
    job: name of the job that ended.
    network: architecture that was evaluated.
    scores: loss, accuracies and number of images of the evaluation.
    seconds: seconds spent, by stage.
    more: fields that only this job has, such as costs and their units.
  """
  result = {
    "job": job,
    **scores,
    "parameters": parameters(network),
    "macs": macs(network),
    **more,
    **{f"seconds_{stage}": round(s, 3) for stage, s in seconds.items()},
    **environment(),
  }
  if job != "search":
    # The fields of a search in this workdir stay, such as costs and seconds.
    result = (read_result(workdir) or {}) | result
  write_json(os.path.join(workdir, FILE), result)
  write_result_events(workdir, result)
  keep_report(workdir)
  return result


def add_to_result(workdir: str | os.PathLike, entries: dict) -> dict:
  """Adds entries to the result in a workdir, and returns all of it.

  Args:
    workdir: folder of the run, with a result of another job or without one.
    entries: fields of `result.json`.
  """
  result = (read_result(workdir) or environment()) | entries
  write_json(os.path.join(workdir, FILE), result)
  keep_report(workdir)
  return result


def environment() -> dict:
  """The environment of a result: device, memory, versions."""
  return {
    "peak_memory_mb": round(_peak_memory_mb(), 1),
    "device": jax.devices()[0].device_kind,
    "devices": jax.device_count(),
    "hosts": jax.process_count(),
    "version_python": platform.python_version(),
    **{f"version_{name}": _version(name) for name in PACKAGES},
  }


def read_result(workdir: str | os.PathLike) -> dict | None:
  """The result in a workdir, or None."""
  path = os.path.join(workdir, FILE)
  return read_fields(path) if os.path.exists(path) else None


def _peak_memory_mb() -> float:
  """Peak memory of the device where that is counted, else of the process."""
  stats = jax.local_devices()[0].memory_stats() or {}
  if "peak_bytes_in_use" in stats:
    return stats["peak_bytes_in_use"] / 1e6
  unit = 1 if sys.platform == "darwin" else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return "not installed"
