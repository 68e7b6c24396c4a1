"""The found network among the paths of the supernet that were evaluated.

A run with `derive.method = 'additive'` or `'evolution'` leaves paths.json.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from proxyless_jax.report.page.contents import Contents

# Paths of about the cost of the found network with which it is compared.
NEAR = 20


@dataclasses.dataclass(frozen=True)
class Sampled:
  """Paths, and the found network among them.

  Attributes:
    label: what the paths are.
    cost, unit: name of the cost on which the found network is compared.
    target: target of that cost, or None.
    costs, losses: of each path, in `unit` and on held-out images.
    found_cost, found_loss: those of the found network.
    predicted: whether `found_loss` is the additive model's.
  """

  label: str
  cost: str
  unit: str
  target: float | None
  costs: list[float]
  losses: list[float]
  found_cost: float
  found_loss: float
  predicted: bool

  @property
  def sentence(self) -> str:
    """The rank of the found network, in words."""
    losses, costs = np.asarray(self.losses), np.asarray(self.costs)
    near = np.argsort(np.abs(costs - self.found_cost), kind="stable")[:NEAR]
    beaten = losses > self.found_loss
    has = "should have by the additive model" if self.predicted else "has"
    text = (
      f"With the weights of the supernet, the found network {has} a loss of "
      f"{self.found_loss:.3f} on held-out images: lower than {beaten.sum()} of "
      f"the {len(losses)} {self.label}, and than {beaten[near].sum()} of the "
      f"{len(near)} that are nearest to it in cost"
    )
    return f"{text}."


def sampled_paths(contents: Contents) -> Sampled | None:
  """The paths of a workdir; None where it has none, or no cost has a table."""
  chosen, paths = contents.chosen(), np.asarray(contents.paths.get("paths", []))
  tables = {
    name: cost
    for name, cost in contents.search.get("costs", {}).items()
    if "table" in cost
  }
  if not chosen or not tables or paths.shape[1:] != (len(chosen),):
    return None
  # The cost that has a target, or the first one.
  name = next(
    (n for n, c in tables.items() if "target" in c), next(iter(tables))
  )
  cost, losses = tables[name], np.asarray(contents.paths["loss"])
  values, found_loss = contents.paths.get("values"), None
  if values is not None:
    found_loss = _predicted(np.asarray(values), paths, losses, chosen)
  elif len(same := np.flatnonzero((paths == chosen).all(axis=1))):
    found_loss = float(losses[same[0]])
  if found_loss is None:
    return None
  return Sampled(
    label="random paths" if values is not None else "paths of the evolution",
    cost=name,
    unit=cost["unit"],
    target=cost.get("target"),
    costs=_costs(cost, paths),
    losses=losses.tolist(),
    found_cost=_costs(cost, np.asarray([chosen]))[0],
    found_loss=found_loss,
    predicted=values is not None,
  )


def _predicted(
  values: np.ndarray, paths: np.ndarray, losses: np.ndarray, chosen: list[int]
) -> float:
  """The additive model's loss: its constant makes the means equal."""
  edges = np.arange(len(values))
  of_paths = values[edges, paths].sum(axis=1)
  return float(losses.mean() - (values[edges, chosen].sum() - of_paths.mean()))


def _costs(cost: dict, paths: np.ndarray) -> list[float]:
  table = np.asarray(cost["table"])
  picked = table[np.arange(len(table)), paths]
  if cost["combine"] == "max":
    return picked.max(axis=1, initial=cost["fixed"]).tolist()
  return (cost["fixed"] + picked.sum(axis=1)).tolist()
