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


def summary(result: dict, workdir: str) -> str:
  """A result in one sentence.

  Args:
    result: contents of `result.json`.
    workdir: folder of the run, as the user wrote it.
  """
  if result.get("job") == "measure":
    return (
      f"mean error {100 * result['error_mean']:.2f} % and Spearman "
      f"{result['spearman']:.4f} on {result['held_out']} networks that the "
      f"table was not fitted to; see {workdir}/table.json and predicted.png"
    )
  if result.get("job") == "predict":
    return f"{result['images']} images classified; see {result['file']}"
  if result.get("job") == "export":
    return _of_export(result)
  if result.get("job") == "random":
    return _of_random(result, workdir)
  compared = ""
  if result.get("compared"):
    compared = (
      "; with the weights of the search, it has a lower loss than "
      f"{result['compared'] - result['compared_better']} of "
      f"{result['compared']} random networks near the target"
    )
  return (
    f"test accuracy {100 * result['top1']:.2f} % on {result['images']} images, "
    f"{result['parameters']:,} parameters, {result['macs']:,} MACs{compared}; "
    f"see {workdir}/result.json and architecture.png"
  )


def _of_export(result: dict) -> str:
  """The sentence for an exported file."""
  said = f"{result['file']}: {result['bytes']:,} bytes; {result['runtime']}"
  if not result["checked"]:
    return f"{said} did not check it: {result['why']}"
  said += f" gives the network's logits to within {result['difference']:.1e}"
  if "latency_ms" in result:
    said += f", in {result['latency_ms']:.3g} ms per image on this CPU"
  if "top1" in result:
    said += (
      f"; in int8, test accuracy {100 * result['top1']:.2f} % on "
      f"{result['images']} images, {100 * result['top1_before']:.2f} % before"
    )
  return said


def _of_random(result: dict, workdir: str) -> str:
  """The sentence for random networks."""
  said = (
    f"test accuracy {100 * result['random_top1_mean']:.2f} % as the mean of "
    f"{result['random_count']} random networks, with a standard deviation of "
    f"{100 * result['random_top1_std']:.2f} points"
  )
  if "random_z" in result:
    said += (
      f"; that of the found network, {100 * result['top1']:.2f} %, is "
      f"{result['random_z']:.1f} standard deviations above their mean"
    )
  return f"{said}; see {workdir}/random.json"


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
