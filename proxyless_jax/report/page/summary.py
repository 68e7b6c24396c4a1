"""Where a run stands, its warnings, key numbers and ledger, as HTML."""

from __future__ import annotations

import datetime
import os
from html import escape

from proxyless_jax.report.page.contents import Contents
from proxyless_jax.report.progress import format_seconds, format_value


def header(contents: Contents, now: datetime.datetime) -> str:
  """Title, and where the run stands.

  Args:
    contents: files of the workdir.
    now: time at which the page is written.
  """
  name = os.path.basename(os.path.abspath(contents.workdir))
  return (
    f"<header><h1>{escape(name)}</h1>"
    f'<p><span class="state">{escape(_state(contents))}</span> '
    f"written {now:%Y-%m-%d %H:%M:%S}</p></header>"
  )


def _state(contents: Contents) -> str:
  job = contents.config.get("job", "run")
  if contents.finished:
    return f"{contents.result.get('job', job)} finished"
  if contents.unfinished is not None:
    stage, entry = contents.unfinished
    return (
      f"unfinished: {stage} at step {entry['step']:,} of {entry['steps']:,}"
    )
  if contents.stages:
    return f"unfinished: {list(contents.stages)[-1]} done, no result yet"
  return "not begun"


def warning_list(contents: Contents) -> str:
  """What makes the result doubtful, prominently."""
  result, found = contents.result, []
  if unfinished := result.get("unfinished"):
    found.append(f"The search was too short: {unfinished}.")
  for name, met in result.items():
    if name.startswith("met_") and met is False:
      cost = name.removeprefix("met_")
      found.append(f"The target of the cost {cost!r} was not met.")
  if result and not contents.finished:
    found.append(
      "A stage goes on since the result was written: numbers below are those "
      "of the last end."
    )
  if not found:
    return ""
  items = "".join(f"<li>{escape(text)}</li>" for text in found)
  return f'<ul class="warnings" role="alert">{items}</ul>'


def tiles(contents: Contents) -> str:
  """The key numbers."""
  result, search = contents.result, contents.search
  found: list[tuple[str, str, str]] = []
  if "top1" in result:
    images = f"on {result['images']:,} test images"
    found.append(("Test accuracy", f"{100 * result['top1']:.2f} %", images))
  for name, cost in search.get("costs", {}).items():
    if f"cost_{name}" in result:
      found.append(_cost_tile(name, cost, result))
  if "parameters" in result:
    found += [
      ("Parameters", format_value(result["parameters"]), ""),
      ("MACs", format_value(result["macs"]), ""),
    ]
  if "log10_size" in search:
    note = f"architectures; {len(search['edges'])} searched edges"
    found.append(("Space", _count(search["log10_size"]), note))
  if seconds := sum(e.get("seconds", 0.0) for e in contents.stages.values()):
    found.append(("Time in stages", format_seconds(seconds), ""))
  tiles = "".join(
    f"<div><dt>{escape(title)}</dt><dd>{escape(value)}"
    f"<small>{escape(note)}</small></dd></div>"
    for title, value, note in found
  )
  return f'<dl class="tiles">{tiles}</dl>' if tiles else ""


def _count(log10: float) -> str:
  """A number from its logarithm: exact where it is small, else as 10^x."""
  return f"{round(10**log10):,}" if log10 < 6 else f"10^{log10:.1f}"


def _cost_tile(name: str, cost: dict, result: dict) -> tuple[str, str, str]:
  unit = result.get(f"unit_{name}", "")
  note = ""
  if "target" in cost:
    note = f"target {format_value(cost['target'], unit)}"
    if f"met_{name}" in result:
      note += ", met" if result[f"met_{name}"] else ", missed"
  return f"Cost: {name}", format_value(result[f"cost_{name}"], unit), note


def ledger_table(contents: Contents) -> str:
  """Steps, images, seconds, compiling and memory by stage; the environment."""
  rows = [
    "".join(
      f"<td>{text}</td>"
      for text in (
        escape(stage),
        f"{entry['step']:,}",
        f"{entry['step'] * entry['batch']:,}" if "batch" in entry else "–",
        _seconds(entry.get("seconds")),
        _seconds(entry.get("seconds_compiling")),
        _memory(entry.get("peak_memory_mb")),
      )
    )
    for stage, entry in contents.stages.items()
  ]
  if "seconds_evaluate" in contents.result:
    seconds = _seconds(contents.result["seconds_evaluate"])
    images = f"{contents.result['images']:,}"
    rows.append(
      f"<td>evaluate</td><td>–</td><td>{images}</td><td>{seconds}</td>"
      "<td>–</td><td>–</td>"
    )
  heads = ("Stage", "Steps", "Images", "Time", "Compiling", "Peak memory")
  head = "".join(f"<th>{name}</th>" for name in heads)
  body = "".join(f"<tr>{row}</tr>" for row in rows)
  table = (
    f'<div class="scroll"><table class="ledger"><thead><tr>{head}</tr></thead>'
    f"<tbody>{body}</tbody></table></div>"
  )
  return table * bool(rows) + _environment(contents)


def _environment(contents: Contents) -> str:
  found = contents.ledger.get("environment") or contents.result
  names = ("device", "devices", "hosts")
  parts = [f"{name} {found[name]}" for name in names if name in found]
  parts += [
    f"{name.removeprefix('version_')} {value}"
    for name, value in found.items()
    if name.startswith("version_")
  ]
  return f"<p>{escape('; '.join(parts))}</p>" if parts else ""


def _seconds(seconds: float | None) -> str:
  # Below ten, tenths matter.
  if seconds is None:
    return "–"
  return f"{seconds:.1f}s" if seconds < 10 else format_seconds(seconds)


def _memory(megabytes: float | None) -> str:
  return "–" if not megabytes else f"{megabytes:,.0f} MB"
