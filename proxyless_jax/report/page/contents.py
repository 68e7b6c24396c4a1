"""What a report shows: the files of a workdir, read."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

from proxyless_jax.report.alpha import read_alpha
from proxyless_jax.report.metrics import read_metrics
from proxyless_jax.space import Network, load_network

# Written by a run for its report: what is searched, and what a run costs.
SEARCH, LEDGER = "search.json", "ledger.json"


@dataclasses.dataclass(frozen=True)
class Contents:
  """The files of a workdir; those that are not there are empty.

  Attributes:
    workdir: path of the folder.
    config, search, ledger, paths, compared, result: contents of JSON files.
    random: entries of random.json.
    architecture: contents of architecture.json.
    network: the same as a network; None without one, or where it has operations
      that this process does not know.
    svg: the figure of the network.
    metrics, alpha: lines of metrics.jsonl and alpha.jsonl.
  """

  workdir: str
  config: dict[str, Any]
  search: dict[str, Any]
  ledger: dict[str, Any]
  paths: dict[str, Any]
  compared: dict[str, Any]
  result: dict[str, Any]
  architecture: dict[str, Any]
  random: list[dict]
  network: Network | None
  svg: str
  metrics: list[dict]
  alpha: list[dict]

  @property
  def stages(self) -> dict[str, dict]:
    """Entries of the ledger by stage; of old runs, what other files tell."""
    if stages := self.ledger.get("stages"):
      return stages
    found = {
      line["stage"]: {"step": line["step"], "steps": line["step"]}
      for line in self.metrics
    }
    for stage, entry in found.items():
      if f"seconds_{stage}" in self.result:
        entry["seconds"] = self.result[f"seconds_{stage}"]
    return found

  @property
  def unfinished(self) -> tuple[str, dict] | None:
    """Name and entry of the stage at which the run stands, if it does."""
    late = [
      (name, entry)
      for name, entry in self.stages.items()
      if entry["step"] < entry["steps"]
    ]
    return late[-1] if late else None

  @property
  def searched(self) -> bool:
    """Whether the run is, or has been, a search; later jobs leave its files."""
    return bool(self.search) or self.config.get("job") == "search"

  @property
  def finished(self) -> bool:
    """Whether the run has a result, and takes no steps since."""
    return bool(self.result) and self.unfinished is None

  def of_stage(self, stage: str) -> list[dict]:
    """The metrics of a stage."""
    return [line for line in self.metrics if line["stage"] == stage]

  def chosen(self) -> list[int] | None:
    """The candidate of each searched edge that the architecture has."""
    edges = self.search.get("edges", [])
    names = {name: ops[0] for name, ops in _edges(self.architecture)}
    try:
      return [edge["ops"].index(names[edge["name"]]) for edge in edges] or None
    except (KeyError, ValueError):  # The architecture of another space.
      return None


def read_contents(workdir: str | os.PathLike) -> Contents:
  """Reads the files of a workdir.

  Raises:
    ValueError: the folder has no run, or a file is not what it should be.
  """
  workdir = os.path.expanduser(os.fspath(workdir))
  of_run = ("config.json", "metrics.jsonl")
  if not any(os.path.exists(os.path.join(workdir, name)) for name in of_run):
    raise ValueError(
      f"workdir = {workdir}: expected the folder of a run, with a config.json: "
      "name the one that --workdir named"
    )
  names = ("config", "search", "ledger", "paths", "compared", "result")
  files = {
    name: _read_json(workdir, f"{name}.json") or {}
    for name in (*names, "architecture")
  }
  svg = os.path.join(workdir, "architecture.svg")
  return Contents(
    workdir=workdir,
    random=_read_json(workdir, "random.json") or [],
    network=_network(workdir),
    svg=_text(svg),
    metrics=read_metrics(workdir),
    alpha=read_alpha(workdir),
    **files,
  )


def _edges(description: Any) -> Iterator[tuple[str, list[str]]]:
  """Names and operations of all edges in the JSON of a network."""
  if isinstance(description, dict):
    if {"name", "ops"} <= description.keys():
      # An operation is a name, or an object with its fields.
      ops = description["ops"]
      yield (
        description["name"],
        [op if isinstance(op, str) else op.get("name", "") for op in ops],
      )
    description = description.values()
  if isinstance(description, Iterable) and not isinstance(description, str):
    for item in description:
      yield from _edges(item)


def _network(workdir: str) -> Network | None:
  path = os.path.join(workdir, "architecture.json")
  try:
    return load_network(path)
  except (ValueError, OSError):
    return None


def _read_json(workdir: str, name: str) -> Any:
  """The contents of a file; None where it is not there."""
  text = _text(os.path.join(workdir, name))
  try:
    return json.loads(text) if text else None
  except ValueError as error:
    raise ValueError(
      f"{os.path.join(workdir, name)}: expected JSON ({error}); restore the "
      "file, or move it away"
    ) from error


def _text(path: str) -> str:
  if not os.path.exists(path):
    return ""
  with open(path, encoding="utf-8") as file:
    return file.read()
