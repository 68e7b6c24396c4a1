"""The found network among others of its space.

With the weights of the supernet: those that a derivation evaluated (paths.json)
and random ones near the target (compared.json). Trained as it was: the networks
of job 'random' (random.json).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from proxyless_jax.report.page.contents import Contents

# Paths of about the cost of the found network with which it is compared.
NEAR = 20


@dataclasses.dataclass(frozen=True)
class Group:
  """Some paths of the supernet.

  Attributes:
    label: what they are.
    costs, losses: f[n], of each path, on held-out images.
  """

  label: str
  costs: np.ndarray
  losses: np.ndarray


@dataclasses.dataclass(frozen=True)
class Sampled:
  """Paths, and the found network among them.

  Attributes:
    cost, unit: name of the cost on which the found network is compared.
    target: target of that cost, or None.
    groups: the paths.
    found_cost, found_loss: those of the found network.
    predicted: whether `found_loss` is the additive model's.
  """

  cost: str
  unit: str
  target: float | None
  groups: tuple[Group, ...]
  found_cost: float
  found_loss: float
  predicted: bool

  @property
  def sentence(self) -> str:
    """The rank of the found network, in words."""
    has = "should have by the additive model" if self.predicted else "has"
    better = [
      f"{np.sum(group.losses > self.found_loss)} of {len(group.losses)} "
      f"{group.label}"
      for group in self.groups
    ]
    if self.predicted:
      (group,) = self.groups
      far = np.abs(group.costs - self.found_cost)
      near = group.losses[np.argsort(far, kind="stable")[:NEAR]]
      count = np.sum(near > self.found_loss)
      better.append(f"{count} of the {len(near)} nearest to it in cost")
    return (
      f"With the weights of the supernet, the found network {has} a loss of "
      f"{self.found_loss:.3f} on held-out images: lower than "
      f"{', and than '.join(better)}."
    )


def sampled_paths(contents: Contents) -> Sampled | None:
  """The paths of a workdir; None where it has none, or no cost has a table."""
  chosen = contents.chosen()
  tables = {
    name: cost
    for name, cost in contents.search.get("costs", {}).items()
    if "table" in cost
  }
  if not chosen or not tables:
    return None
  # The cost that has a target, or the first one.
  name = next(
    (n for n, c in tables.items() if "target" in c), next(iter(tables))
  )
  cost, groups, loss, predicted = tables[name], [], None, False
  if len(evaluated := _paths(contents.paths, chosen)):
    losses = np.asarray(contents.paths["loss"])
    values = contents.paths.get("values")
    label = "random paths" if values else "paths of the evolution"
    groups.append(Group(label, _costs(cost, evaluated), losses))
    loss, predicted = _loss(values, evaluated, losses, chosen), bool(values)
  compared = _paths(contents.compared, chosen)
  if len(compared) and compared[-1].tolist() == chosen:
    losses = np.asarray(contents.compared["loss"])
    loss, predicted = losses[-1], False
    # Near the target of a small space the found one is drawn as well.
    others = (compared != chosen).any(axis=1)
    label, costs = f"others{_near(contents)}", _costs(cost, compared[others])
    groups.append(Group(label, costs, losses[others]))
  if loss is None:
    return None
  return Sampled(
    cost=name,
    unit=cost["unit"],
    target=cost.get("target"),
    groups=tuple(groups),
    found_cost=float(_costs(cost, np.asarray([chosen]))[0]),
    found_loss=float(loss),
    predicted=predicted,
  )


def trained_sentence(contents: Contents) -> str:
  """How the found network compares with trained random ones; or ''."""
  result, count = contents.result, len(contents.random)
  if not count:
    return ""
  accuracies = 100 * np.array([entry["top1"] for entry in contents.random])
  text = (
    f"Trained by the same recipe, {count} random networks{_near(contents)} "
    f"reach {accuracies.mean():.2f} %"
  )
  if count > 1:
    text += f" with a standard deviation of {accuracies.std(ddof=1):.2f} %"
  if "top1" in result:
    own = 100 * result["top1"]
    better = int(np.sum(accuracies < own))
    text += f"; the found one has {own:.2f} %, more than {better} of them"
  return f"{text}."


def _near(contents: Contents) -> str:
  """Where random networks were drawn: near the target, if there is one."""
  costs = contents.search.get("costs", {}).values()
  return " near the target" if any("target" in c for c in costs) else ""


def _paths(found: dict[str, Any], chosen: list[int]) -> np.ndarray:
  """i64[n, e]; none where they are of another space."""
  paths = np.asarray(found.get("paths", []), int)
  fits = paths.ndim == 2 and paths.shape[1] == len(chosen)
  return paths if fits else np.empty((0, len(chosen)), int)


def _loss(
  values: list[list[float]] | None,
  paths: np.ndarray,
  losses: np.ndarray,
  chosen: list[int],
) -> float | None:
  """The loss of the found path: the additive model's, or the evaluated one."""
  if values is None:
    same = np.flatnonzero((paths == chosen).all(axis=1))
    return float(losses[same[0]]) if len(same) else None
  table, edges = np.asarray(values), np.arange(len(values))
  # The constant of the model makes the means equal.
  of_paths = table[edges, paths].sum(axis=1).mean()
  return float(losses.mean() - (table[edges, chosen].sum() - of_paths))


def _costs(cost: dict, paths: np.ndarray) -> np.ndarray:
  table = np.asarray(cost["table"])
  picked = table[np.arange(len(table)), paths]
  if cost["combine"] == "max":
    return picked.max(axis=1, initial=cost["fixed"])
  return cost["fixed"] + picked.sum(axis=1)
