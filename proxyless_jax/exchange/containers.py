"""The state dict inside the checkpoint of a training program.

Most files are a dict that has the weights under one of several usual names,
beside the optimizer's state and the like. Modules that wrap another one put a
prefix before all its names. Programs that average weights save both the raw and
the averaged ones. Nothing here needs PyTorch.

Conventions: timm {state_dict, state_dict_ema}; torchvision's references
{model, model_ema}; Lightning {state_dict} with the attribute of the module
before each name, and, with its WeightAveraging, the averages under state_dict
beside {current_model_state}; PyTorch's tutorials {model_state_dict}; DeepSpeed
{module}; RT-DETR {model, ema: {module}}; averages written by hand often
{shadow, decay}.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from absl import logging

from proxyless_jax.space.checks import expect

# Prefixes of DataParallel and AveragedModel, and of torch.compile.
COMPILED = "_orig_mod"
WRAPPERS = ("module", COMPILED)
# The last line has the names of an AveragedModel in PyTorch's documentation.
AVERAGED = (
  *("state_dict_ema", "model_ema", "ema", "ema_state_dict", "shadow"),
  *("ema_model", "averaged_model", "swa_model"),
)
# Beside this, weights under the other names are averages.
CURRENT = ("current_model_state",)
NAMES = (*AVERAGED, "state_dict", "model", "model_state_dict", "net", *CURRENT)
# Counters beside the weights: of AveragedModel, and of thop in each module.
COUNTERS = ("n_averaged", "total_ops", "total_params")


class Weights(NamedTuple):
  """One of the sets of weights in a checkpoint.

  Attributes:
    rank: preference; averaged weights have a higher one than raw weights.
    part: names that lead to it, joined by dots; '' for the whole checkpoint.
    entries: values by name, without prefixes.
  """

  rank: int
  part: str
  entries: dict[str, Any]


def find_state_dict(
  where: str, data: Mapping[str, Any], part: str = ""
) -> dict[str, Any]:
  """The entries of the state dict in a checkpoint, without prefixes.

  Of raw and averaged weights, these are the averaged ones, which training
  programs evaluate; this is logged.

  Args:
    where: name of the checkpoint in messages.
    data: contents of the checkpoint, as `torch.load` returns them: a state
      dict, or one under usual names.
    part: names of a part of it, joined by dots; '' for the usual names.

  Raises:
    ValueError: there is no such part, or there are several sets of weights.
  """
  text = isinstance(part, str)
  expect(text, "part", part, "names joined by dots, such as 'state_dict'")
  found = list(_sets(where, _inside(where, data, part)))
  if not found:
    return {}
  largest = max(found, key=lambda one: len(one.entries)).entries.keys()
  # A dict that shares no name with it is another thing, such as a decay rate.
  found = [one for one in found if one.entries.keys() & largest]
  found.sort(key=lambda one: one.rank)
  *others, best = found
  if others and others[-1].rank == best.rank:
    raise ValueError(
      f"{where}: expected one set of weights, found "
      f"{sorted(one.part for one in found)}: {_advice(best.part)}"
    )
  if others:
    logging.warning(
      "%s: took the averaged weights (%s), not the raw ones (%s); for those %s",
      where,
      best.part,
      ", ".join(one.part or "names without a prefix" for one in others),
      _advice(others[-1].part),
    )
  return best.entries


def _advice(part: str) -> str:
  if not part:
    return "pass their names alone to `from_torch`"
  return (
    f"pass part={part!r}, or write #{part} after the file in config.weights"
  )


def _inside(
  where: str, data: Mapping[str, Any], part: str
) -> Mapping[str, Any]:
  """The part of a checkpoint: a dict in it, or the names with a prefix."""
  for name in filter(None, part.split(".")):
    inside = data.get(name)
    if not isinstance(inside, Mapping):
      inside = {
        str(key).removeprefix(f"{name}."): value
        for key, value in data.items()
        if str(key).startswith(f"{name}.")
      }
    if not inside:
      raise ValueError(
        f"{where}: part = {part!r}: expected one of {outline(data)}"
      )
    data = inside
  return data


def outline(data: Mapping) -> list[str]:
  """The first parts of a checkpoint's names, for a message."""
  return sorted({str(name).partition(".")[0] for name in data})


def _sets(where: str, data: Mapping) -> Iterator[Weights]:
  for at, state_dict in _state_dicts(data, ()):
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for full, value in state_dict.items():
      parts = str(full).split(".")
      if parts[-1] not in COUNTERS:
        before, name = _without_prefix(parts)
        group = groups.setdefault((*at, *before), {})
        if name in group:
          raise ValueError(
            f"{where}: expected one set of weights, found {name!r} twice, with "
            "and without the prefix of a wrapper, such as 'module.': pass the "
            "names of one alone to `from_torch`"
          )
        group[name] = value
    yield from _joined(groups)


def _state_dicts(
  data: Mapping, at: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Mapping]]:
  """The innermost dicts under usual names, with those names.

  A wrapper's name is one of them: {'ema': {'module': ..., 'updates': 3}}.
  """
  usual = (*NAMES, *WRAPPERS)
  inner = [n for n in data if n in usual and isinstance(data[n], Mapping)]
  if not inner:
    yield at, data
  for name in inner:
    yield from _state_dicts(data[name], (*at, name))


def _without_prefix(parts: list[str]) -> tuple[tuple[str, ...], str]:
  """The parts up to the last usual name, and the entry's name."""
  count, end = 0, 0
  while count < len(parts) - 1 and parts[count] in (*NAMES, *WRAPPERS):
    count += 1
    end = count if parts[count - 1] in NAMES else end
  # A module inside another one may be compiled by itself.
  name = ".".join(part for part in parts[count:] if part != COMPILED)
  return tuple(parts[:end]), name


def _joined(groups: Mapping[tuple[str, ...], dict]) -> Iterator[Weights]:
  """Groups that can be one state dict, such as model.* and loss.*, joined."""
  sets: list[Weights] = []
  for before in sorted(groups, key=lambda before: -len(groups[before])):
    rank, part = _rank(before), ".".join(before)
    for one in sets:
      if one.rank == rank and not one.entries.keys() & groups[before].keys():
        one.entries.update(groups[before])
        break
    else:
      sets.append(Weights(rank, part, dict(groups[before])))
  yield from sets


def _rank(names: tuple[str, ...]) -> int:
  if any(name in CURRENT for name in names):
    return 0
  return 2 if any(name in AVERAGED for name in names) else 1
