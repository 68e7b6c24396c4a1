"""Quantities with units, such as '20 ms', '40 M MACs' and '1.5 MiB'."""

from __future__ import annotations

import math
import re

# Units that can be converted into each other.
SCALES: tuple[dict[str, float], ...] = (
  {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6},
  {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6, "µJ": 1e-6},
  {
    **{"bytes": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9},
    **{"KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
  },
)
# Prefixes of all other units, such as MACs and parameters.
PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}
NUMBER = r"(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)"


def parse_quantity(text: str, unit: str, field: str = "quantity") -> float:
  """A cost such as '20 ms', '40 M MACs' or '3.2e6', in `unit`.

  Args:
    text: a number, with or without a unit. Times, energies and bytes may have
      any unit of their kind; counts may have prefixes, 'B' for billions.
    unit: unit of the result, and of a number without one.
    field: name of the field, for errors.

  Raises:
    ValueError: not a positive number, or one of another kind of unit.

  >>> parse_quantity("0.02 s", "ms"), parse_quantity("40 M", "MACs")
  (20.0, 40000000.0)
  """
  text, unit = _one_micro(text), _one_micro(unit)
  scales = _scales(unit)
  if scales is None:
    value, known = _counted(text, unit), f"'40 M {unit}', in k, M or G"
  else:
    value = _scaled(text, unit, scales)
    known = f"'20 {unit}', in one of {', '.join(scales)}"
  if value is not None and 0.0 < value < math.inf:
    return value
  advice = ""
  if other := re.fullmatch(rf"\s*{NUMBER}\s*([^\d.].*)", text):
    advice = (
      f": {other[2]!r} is none of these, and costs in another unit need a "
      "table in it"
    )
  raise ValueError(
    f"{field} = {text!r}: expected a positive number of {unit}, such as "
    f"{known}{advice}"
  )


def other_scales(text: str, unit: str) -> list[str]:
  """The number of a quantity with each prefix, or each related unit.

  One of them may be what the user meant, where the quantity is far off.

  Args:
    text: quantity as for `parse_quantity`.
    unit: unit of the table.

  >>> other_scales("40", "MACs")
  ['40 MACs', '40 k MACs', '40 M MACs', '40 G MACs']
  """
  unit = _one_micro(unit)
  number = re.match(rf"\s*{NUMBER}", _one_micro(text))
  if number is None:
    return []
  scales = _scales(unit)
  units = scales or [f"{p} {unit}".strip() for p in ("", "k", "M", "G")]
  return [f"{number[1]} {one}" for one in units]


def split_quantity(text: str, field: str = "quantity") -> tuple[float, str]:
  """The number and the unit in a text such as '20 ms', whatever the unit.

  Args:
    text: a number and its unit.
    field: name of the field, for errors.

  Raises:
    ValueError: not a positive number and a unit.
  """
  text = _one_micro(text)
  match = re.fullmatch(rf"\s*{NUMBER}\s*([^\s\d.](?:.*\S)?)\s*", text)
  if match and 0.0 < float(match[1]) < math.inf:
    return float(match[1]), match[2]
  raise ValueError(
    f"{field} = {text!r}: expected a positive number and its unit, such as "
    "'20 ms'"
  )


def _scales(unit: str) -> dict[str, float] | None:
  """The units that can be converted into `unit`; None for counts."""
  return next((scales for scales in SCALES if unit in scales), None)


def _one_micro(text: object) -> str:
  # Keyboards have the Greek letter; the sign is another character.
  return str(text).replace("\u03bc", "\u00b5")


def _counted(text: str, unit: str) -> float | None:
  pattern = rf"\s*{NUMBER}\s*([kKMGB]?)\s*(?i:{re.escape(unit)})?\s*"
  match = re.fullmatch(pattern, text)
  return float(match[1]) * PREFIXES[match[2]] if match else None


def _scaled(text: str, unit: str, scales: dict[str, float]) -> float | None:
  # Case matters: mJ is not MJ.
  given = "|".join(sorted(scales, key=len, reverse=True))
  match = re.fullmatch(rf"\s*{NUMBER}\s*({given})?\s*", text)
  if match is None:
    return None
  if match[2] in (None, unit):
    return float(match[1])
  return float(match[1]) * scales[match[2]] / scales[unit]
