"""The journal of a measurement: one line of JSON for each finished reading.

A measurement that was stopped reads its journal and continues after it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os

from proxyless_jax.space import Network

VERSION = 1
AWAY = "name another file, or move this one away"


@dataclasses.dataclass(frozen=True)
class Reading:
  """The measured cost of one network or block.

  Attributes:
    cost: cost relative to the reference network's, measured in turn with it; in
      the runtime's unit where the runtime is settled.
    error: relative standard error of `cost`.
    reference: cost of the reference at that time, in the runtime's unit; 1
      where the runtime is settled.
    rounds: number of rounds.
    seconds: time from the reading before to this one.
  """

  cost: float
  error: float
  reference: float
  rounds: int
  seconds: float = 0.0


def key_of(kind: str, network: Network) -> str:
  """The key of a reading: its kind, and a digest of the network."""
  digest = hashlib.sha256(network.to_json().encode()).hexdigest()[:20]
  return f"{kind} {digest}"


def _parse(line: bytes) -> tuple[str, Reading]:
  fields = json.loads(line)
  key = fields.pop("key")
  if not isinstance(key, str) or not all(map(math.isfinite, fields.values())):
    raise ValueError("not a reading")
  return key, Reading(**fields)


class Journal:
  """Readings by key, in memory and, where there is a path, in a file."""

  def __init__(self, path: str | os.PathLike | None, header: dict) -> None:
    """Opens a journal, or begins one.

    Args:
      path: path of the file; None keeps nothing.
      header: everything that all readings depend on, such as the runtime's
        name.

    Raises:
      ValueError: the file has another header, whose differences are named, or
        is no journal, or has a line that is no reading; the file stays as it
        is.
    """
    self._path = None if path is None else os.fspath(path)
    self._readings: dict[str, Reading] = {}
    self._header = {"version": VERSION, **header}
    if self._path is None:
      return
    if os.path.exists(self._path):
      self._read(self._path)
    if not _size(self._path):
      _append(self._path, self._header)

  def _read(self, path: str) -> None:
    with open(path, "rb") as file:
      # Anything after the last newline is a line that a kill has cut.
      *lines, torn = file.read().split(b"\n")
    if lines:
      self._check_header(path, lines[0])
    elif not json.dumps(self._header).encode().startswith(torn):
      raise _wrong(path, 1, "the header of a journal", torn, AWAY)
    for number, line in enumerate(lines[1:], start=2):
      try:
        key, reading = _parse(line)
      except (ValueError, TypeError, KeyError, AttributeError) as error:
        fix = "delete that line"
        raise _wrong(path, number, "a reading", line, fix) from error
      self._readings[key] = reading
    if torn:
      os.truncate(path, _size(path) - len(torn))

  def _check_header(self, path: str, line: bytes) -> None:
    try:
      found = json.loads(line)
    except ValueError:
      found = None
    if not isinstance(found, dict) or "version" not in found:
      raise _wrong(path, 1, "the header of a journal", line, AWAY)
    names = sorted({*found, *self._header})
    wrong = [
      f"{name}: {found.get(name)!r} there, {self._header.get(name)!r} now"
      for name in names
      if found.get(name) != self._header.get(name)
    ]
    if wrong:
      raise ValueError(
        f"{path} is the journal of another measurement: "
        f"{'; '.join(wrong)}. Use another workdir, or move the file away"
      )

  def __contains__(self, key: str) -> bool:
    return key in self._readings

  def __getitem__(self, key: str) -> Reading:
    return self._readings[key]

  def __len__(self) -> int:
    return len(self._readings)

  def add(self, key: str, reading: Reading) -> None:
    """Keeps a reading; it is on the disk when this returns."""
    self._readings[key] = reading
    if self._path is not None:
      _append(self._path, {"key": key, **dataclasses.asdict(reading)})

  @property
  def seconds(self) -> float:
    """The time of all readings, those of earlier calls included."""
    return sum(reading.seconds for reading in self._readings.values())

  @property
  def level(self) -> float:
    """The cost of the reference: the median over all readings."""
    references = sorted(r.reference for r in self._readings.values())
    middle = len(references) // 2
    return (references[middle] + references[~middle]) / 2


def _size(path: str) -> int:
  return os.path.getsize(path) if os.path.exists(path) else 0


def _append(path: str, line: dict) -> None:
  with open(path, "a", encoding="utf-8") as file:
    file.write(json.dumps(line) + "\n")
    file.flush()
    os.fsync(file.fileno())


def _wrong(
  path: str, number: int, expected: str, line: bytes, fix: str
) -> ValueError:
  return ValueError(
    f"{path} line {number}: expected {expected}, got "
    f"{line[:60].decode(errors='replace')!r}; {fix}"
  )
