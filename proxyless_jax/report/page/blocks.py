"""The found network block by block, with what each block costs."""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import math
from collections.abc import Sequence
from html import escape

from proxyless_jax.report.page.contents import Contents
from proxyless_jax.report.page.timeline import group
from proxyless_jax.report.progress import format_value
from proxyless_jax.space import Edge, Network, macs, parameters
from proxyless_jax.space.edge import Size
from proxyless_jax.space.zoo import NETWORKS, zoo

# A network of more layers has a row for each block, not for each layer.
LONGEST = 40
# Published networks that are shown, and how far they may be in MACs.
NEAREST, FAR = 5, 4.0


def block_table(contents: Contents) -> str:
  """HTML: a row for each block, with its MACs and its searched costs."""
  network = contents.network
  if network is None:
    return ""
  costs = _costs(contents)
  rows = []
  for name, layers in _blocks(network):
    values = [
      ("MACs", sum(edge.op.macs(edge) for edge in layers)),
      *(
        (title, sum(of_edge.get(edge.name, 0.0) for edge in layers))
        for title, of_edge in costs
      ),
    ]
    rows.append((name, layers, values))
  largest = [
    max((abs(row[2][i][1]) for row in rows), default=0.0) or 1.0
    for i in range(1 + len(costs))
  ]
  titles = ["MACs", *(title for title, _ in costs)]
  head = "".join(f"<th>{escape(title)}</th>" for title in titles)
  body = "".join(_row(*row, largest) for row in rows)
  return (
    '<div class="scroll"><table class="blocks"><thead><tr>'
    "<th>Block</th><th>Shape</th>"
    f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    f"{_fixed(contents)}"
  )


def zoo_table(contents: Contents) -> str:
  """HTML: published networks of about the MACs of the found one."""
  network = contents.network
  if network is None:
    return ""
  own = macs(network)
  if not own:
    return ""
  published = _published(network.image_size, network.channels, network.classes)
  near = [
    (abs(math.log(count / own)), name, count, size)
    for name, count, size in published
  ]
  near = sorted(item for item in near if item[0] <= math.log(FAR))[:NEAREST]
  if not near:
    return ""
  rows = [("this network", own, parameters(network))]
  rows += [(name, count, size) for _, name, count, size in near]
  body = "".join(
    f"<tr><td>{escape(name)}</td><td>{count:,}</td><td>{size:,}</td></tr>"
    for name, count, size in rows
  )
  return (
    "<h3>Published networks of about its MACs</h3><p>On images of this size; "
    "counted, not trained here.</p>"
    "<table><thead><tr><th>Network</th><th>MACs</th><th>Parameters</th></tr>"
    f"</thead><tbody>{body}</tbody></table>"
  )


def values_table(contents: Contents) -> str:
  """HTML: by how much each candidate lowers the loss, by the additive model."""
  values, edges = contents.paths.get("values"), contents.search.get("edges")
  chosen = contents.chosen()
  if not values or not edges or chosen is None:
    return ""
  largest = max(abs(value) for row in values for value in row) or 1.0
  ops = list(dict.fromkeys(op for edge in edges for op in edge["ops"]))
  head = "".join(f'<th scope="col">{escape(op)}</th>' for op in ops)
  rows = []
  for edge, row, index in zip(edges, values, chosen):
    cells = dict.fromkeys(ops, '<td class="none"></td>')
    for i, (op, value) in enumerate(zip(edge["ops"], row)):
      best = ' class="best"' if i == index else ""
      share = 75 * abs(value) / largest
      color = f"var({'--c0' if value > 0 else '--c1'}) {share:.0f}%"
      style = f"background:color-mix(in srgb, {color}, var(--card))"
      cells[op] = f'<td{best} style="{style}">{1000 * value:.0f}</td>'
    name = f'<th scope="row">{escape(edge["name"])}</th>'
    rows.append(f"<tr>{name}{''.join(cells.values())}</tr>")
  table = (
    '<div class="scroll"><table class="alpha"><thead><tr>'
    f'<td class="none"></td>{head}</tr></thead><tbody>'
    f"{''.join(rows)}</tbody></table></div>"
  )
  if len(rows) > LONGEST:
    table = f"<details><summary>All edges</summary>{table}</details>"
  return (
    "<p>By how much each candidate lowers the loss of the supernet's paths, in "
    "thousandths. The network is the best within the targets by these values; "
    "its candidates are framed.</p>" + table
  )


@functools.cache
def _published(
  image_size: Size, channels: int, classes: int
) -> list[tuple[str, int, int]]:
  """Name, MACs and parameters of published networks for such images."""
  found = []
  for name in NETWORKS:
    with contextlib.suppress(ValueError):  # Not for images of this size.
      network = zoo(
        name, image_size=image_size, channels=channels, classes=classes
      )
      found.append((name, macs(network), parameters(network)))
  return found


def _blocks(network: Network) -> list[tuple[str, list[Edge]]]:
  layers = network.layers
  if len(layers) <= LONGEST:
    return [(edge.name, [edge]) for edge in layers]
  return [
    (name, list(edges))
    for name, edges in itertools.groupby(layers, lambda e: group(e.name))
  ]


def _costs(contents: Contents) -> list[tuple[str, dict[str, float]]]:
  """Title, and cost by searched edge, of the costs that are not MACs."""
  chosen = contents.chosen()
  if chosen is None:
    return []
  names = [edge["name"] for edge in contents.search["edges"]]
  return [
    (
      f"{name} [{cost['unit']}]",
      {n: row[i] for n, row, i in zip(names, cost["table"], chosen)},
    )
    for name, cost in contents.search.get("costs", {}).items()
    if "table" in cost and cost["unit"] != "MACs"
  ]


def _fixed(contents: Contents) -> str:
  """What of measured costs belongs to no searched edge."""
  parts = [
    f"{escape(name)}: {format_value(cost['fixed'], cost['unit'])} for all that "
    "is not searched"
    + (", and the largest part counts" if cost["combine"] == "max" else "")
    for name, cost in contents.search.get("costs", {}).items()
    if "table" in cost and cost["unit"] != "MACs"
  ]
  return f"<p>{'; '.join(parts)}.</p>" if parts else ""


def _row(
  name: str,
  layers: Sequence[Edge],
  values: Sequence[tuple[str, int | float]],
  largest: Sequence[float],
) -> str:
  counts = collections.Counter(edge.op.name for edge in layers)
  ops = ", ".join(
    op if count == 1 else f"{op} ×{count}" for op, count in counts.items()
  )
  h, w, c = layers[0].shape_in
  h_out, w_out, c_out = layers[-1].shape_out
  cells = "".join(
    f"<td>{format_value(value) if value else '0'}"
    f'<span class="bar"><i style="width:{100 * abs(value) / most:.1f}%"></i>'
    "</span></td>"
    for (_, value), most in zip(values, largest)
  )
  skipped = ' class="skipped"' if set(counts) == {"zero"} else ""
  return (
    f"<tr{skipped}><td><b>{escape(name)}</b><br>{escape(ops)}</td>"
    f"<td>{h}×{w}×{c}<br>→ {h_out}×{w_out}×{c_out}</td>{cells}</tr>"
  )
