"""The section `space` of a config: a family with its arguments, or a network.

dict(family="mobile", depths=(3, 4), ...)    arguments of `mobile_space`
pj.Chain(...)                                any network of your own
"space.json"                                 the JSON of a network
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from proxyless_jax.run.config import fields
from proxyless_jax.space import (
  Network,
  Op,
  load_network,
  mobile_space,
  tree_space,
)
from proxyless_jax.space.edge import Size

SPACES: dict[str, Callable[..., Network]] = {
  "mobile": mobile_space,
  "tree": tree_space,
}
# The section as a user may give it.
Space = Mapping | Network | str | os.PathLike
# Arguments of spaces that the data give, the classes last.
FROM_DATA = ("image_size", "channels", "classes")


def read_space(given: Space) -> Mapping[str, Any] | Network:
  """The section with its defaults filled in, or the network itself.

  Given what it has returned, it returns the same again.

  Args:
    given: family and arguments, a network, or the path of a network's JSON.

  Raises:
    ValueError: an unknown family or argument, or a file that holds no network.
  """
  if isinstance(given, Network):
    return given
  if isinstance(given, str | os.PathLike):
    return _loaded(os.fspath(given))
  section = {"family": "mobile", **given}
  fields.one_of("space.family", section["family"], tuple(SPACES))
  defaults = space_defaults(section["family"])
  fields.check_names("space", section, {"family", *defaults})
  return defaults | section


def _loaded(path: str) -> Network:
  try:
    return load_network(path)
  except (ValueError, OSError) as error:
    problem = str(error).removeprefix(f"{path}: ")
    raise ValueError(
      f"space = {path!r}: {problem}: expected a family with arguments, a "
      "network, or the path of a network's JSON (with operations of your own: "
      "a network, pj.load_network(path, ops=[...]))"
    ) from error


def make_space(
  section: Space,
  *,
  image_size: Size,
  channels: int,
  classes: int,
) -> Network:
  """The network that is searched, for the data.

  Args:
    section: the section of the config.
    image_size: size of the images, in pixels.
    channels: channels of the images.
    classes: number of classes.

  Raises:
    ValueError: the space does not fit the data, or a wrong argument.
  """
  shape = {"image_size": image_size, "channels": channels, "classes": classes}
  section = read_space(section)
  if isinstance(section, Network):
    _check_fits(section, shape)
    return section
  arguments = dict(section)
  make = SPACES[arguments.pop("family")]
  try:
    return make(**arguments, **shape)
  except (TypeError, ValueError) as error:
    raise ValueError(_dotted(str(error), arguments)) from error


def _check_fits(network: Network, shape: Mapping[str, Any]) -> None:
  wrong = {k: v for k, v in shape.items() if getattr(network, k) != v}
  if wrong:
    found = ", ".join(f"{k} = {getattr(network, k)}" for k in wrong)
    needed = ", ".join(f"{k} = {v}" for k, v in wrong.items())
    raise ValueError(
      f"space: the network has {found}: expected {needed}, as the section data "
      "(or measure.classes) says: build the network for these, or change them"
    )


def check_searched(section: Space, space: Network) -> None:
  """Raises a ValueError for a space in which there is nothing to search.

  Args:
    section: the section of the config.
    space: result of `make_space` for the section.
  """
  if not space.is_architecture:
    return
  remedy = (
    "since there is nothing else to search: to train one network, use job "
    "'train' with config.network"
  )
  section = read_space(section)
  if isinstance(section, Network):
    raise ValueError(
      "space: every edge of the network has one candidate: expected two or "
      f"more on an edge, {remedy}"
    )
  raise ValueError(
    f"space.candidates = {section['candidates']!r}: expected two or more that "
    f"fit an edge, such as ('mbconv3_k3', 'mbconv6_k3'), {remedy}"
  )


def space_defaults(family: object) -> dict[str, Any]:
  """Arguments of a space of a family, with their defaults.

  Empty for a family that is not one of `SPACES`.
  """
  if family not in SPACES:
    return {}
  parameters = inspect.signature(SPACES[family]).parameters
  return {n: p.default for n, p in parameters.items() if n not in FROM_DATA}


def own_ops(section: Space) -> list[Op]:
  """Operations that a space holds as objects: JSON can name them alone."""
  section = read_space(section)
  if isinstance(section, Network):
    return list({op.name: op for e in section.layers for op in e.ops}.values())
  given = section["candidates"]
  several = given if isinstance(given, list | tuple) else ()
  return [op for op in several if isinstance(op, Op)]


def _dotted(problem: str, arguments: Collection[str]) -> str:
  """An error of a space's function, with the section of the field it names."""
  field, *_ = re.split(r"\W", problem, maxsplit=1)
  if field in arguments:
    return f"space.{problem}"
  return f"data.{problem}" if field in FROM_DATA[:2] else f"space: {problem}"
