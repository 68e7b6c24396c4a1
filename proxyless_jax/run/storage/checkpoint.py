"""Checkpoints of a run: its state and the positions of its data, with Orbax.

A checkpoint is one Orbax composite, written in the background and committed
by a rename: the process may be killed at any moment. Orbax does not notice a
flipped bit in an array, so a manifest holds the checksum of every array, and
restoring falls back from a damaged checkpoint to the one before it. When a
checkpoint is on disk, one array of it is read back, as a restore would do.

Arrays are saved whole, however they are spread over devices and hosts, and a
position of the data is the same for all hosts: a checkpoint can be restored on
any number of devices and hosts.
"""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import pathlib
import shutil
import warnings
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from proxyless_jax.run.storage.snapshot import (
  from_host,
  is_key,
  named_leaves,
  to_host,
)

# Version of the contents of a checkpoint; one more with each change.
FORMAT = 3

# Arrays on the host by the names of their leaves.
Arrays = dict[str, np.ndarray]


class Checkpoints(contextlib.AbstractContextManager):
  """The checkpoints in a folder; closes as a context manager.

  All hosts of a run share the folder, and make the same calls.

  Attributes:
    moved: text, after `restore` of a checkpoint that was saved on another
      number of devices or hosts, that names both numbers; else ''.
  """

  def __init__(
    self, directory: str | pathlib.Path, *, keep: int, writes: bool = True
  ):
    """Opens the folder, made where it is missing.

    Args:
      directory: local path; half-written checkpoints in it are removed.
      keep: number of checkpoints that stay, the newest ones; with 2, there is
        one to fall back to.
      writes: False to only restore: nothing in the folder changes then, so
        that another run may be writing there.

    Raises:
      ValueError: `keep` is below 1.
      OSError: `directory` is a file, or cannot be made.
    """
    if keep < 1:
      raise ValueError(f"keep = {keep}: expected 1 or more; set it to 2")
    self._directory = pathlib.Path(directory).absolute()
    try:
      self._directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
      raise type(error)(
        f"{self._directory}: expected a folder of checkpoints, got a file, or "
        "a path through one: move that file away"
      ) from error
    self._writes = writes
    options = ocp.CheckpointManagerOptions(
      max_to_keep=keep,
      cleanup_tmp_directories=writes,
      # Otherwise, if a folder cannot be made, threads that wait for it keep the
      # program from ending for minutes.
      async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
    )
    folder = _LiteralPath(self._directory)
    # Step and checksums of the last save, until an array has been read back.
    self._unread: tuple[int, dict[str, int]] | None = None
    self.moved = ""
    with _quiet():
      self._manager = ocp.CheckpointManager(folder, options=options)

  def save(self, step: int, state: Any, iterators: Mapping[str, Any]) -> None:
    """Saves in the background, as things are at the call.

    The caller may donate `state` and move the iterators at once. Waits for the
    previous save, and raises if that one failed or cannot be read back.

    Args:
      step: number of steps taken, not in `steps()`.
      state: pytree of arrays and PRNG keys: global arrays, however they are
        sharded, or the same on every host.
      iterators: iterators of the data, by name; `get_state` gives a value that
        JSON can hold, the same on every host.

    Raises:
      TypeError: a leaf is not an array, or JSON cannot hold a position.
      ValueError: the step is there already.
      OSError: as `wait`.
    """
    self.wait()
    leaves = named_leaves(state)
    arrays = to_host(leaves)
    manifest = _manifest(leaves, arrays, iterators)
    args = ocp.args.Composite(
      manifest=ocp.args.JsonSave({"sealed": _seal(manifest)}),
      state=ocp.args.PyTreeSave(arrays),
    )
    # Without force, Orbax silently skips a step below the newest.
    self._manager.save(int(step), args=args, force=True)
    if arrays:
      smallest = min(arrays, key=lambda name: arrays[name].nbytes)
      self._unread = int(step), {smallest: manifest["crc32"][smallest]}

  def restore(
    self, state_like: Any, iterators: Mapping[str, Any]
  ) -> tuple[int, Any] | None:
    """Restores the newest checkpoint that is whole.

    Damaged newer ones are named in a warning and renamed to `STEP.damaged`.

    Args:
      state_like: pytree of arrays, or of `jax.ShapeDtypeStruct`, with the
        structure, shapes, dtypes and shardings to restore to, on any number
        of devices and hosts.
      iterators: iterators by the names that were saved, which are set to their
        positions, or None instead of an iterator.

    Returns:
      `(step, state)`, or None where there is no checkpoint.

    Raises:
      ValueError: the checkpoint is of another structure than asked for, or
        of another version of this package.
      OSError: there are checkpoints, and all are damaged.
    """
    self.wait()
    if (found := self._read_newest(state_like, iterators)) is None:
      return None
    step, arrays, manifest = found
    for name, iterator in iterators.items():
      if iterator is not None:
        iterator.set_state(manifest["positions"][name])
    now = _counted_devices()
    if (before := manifest.get("saved_on", now)) != now:
      self.moved = f", on {now} instead of {before}"
    return step, from_host(arrays, state_like, manifest["key_impl"])

  def steps(self) -> list[int]:
    """The steps that are saved or being saved, in order."""
    return sorted(self._manager.all_steps())

  def wait(self) -> None:
    """Returns when the last save is on disk and an array of it can be read.

    Raises:
      OSError: it cannot be read back: a resume would find nothing.
    """
    self._manager.wait_until_finished()
    if self._unread is None:
      return
    (step, checksums), self._unread = self._unread, None
    try:
      self._arrays(step, checksums)
    except _DamagedError as error:
      raise OSError(
        f"the checkpoint of step {step} in {self._directory} was saved, but "
        f"cannot be read back ({error}): expected a folder whose files stay as "
        "they are written; use a workdir on another file system"
      ) from error

  def close(self) -> None:
    """Waits, and ends the background threads."""
    self._manager.close()

  def __exit__(self, *exception: object) -> None:
    self.close()

  def _read_newest(
    self, state_like: Any, iterators: Mapping[str, Any]
  ) -> tuple[int, Arrays, dict[str, Any]] | None:
    """Step, arrays and manifest of the newest checkpoint that is whole."""
    asked = _structure(named_leaves(state_like), iterators)
    damages: dict[int, str] = {}
    for step in reversed(self.steps()):
      try:
        found, damage = self._read(step, asked), ""
      except _DamagedError as error:
        damage = str(error)
      # A host may have read what another one could not, and all have to agree.
      if np.all(multihost_utils.process_allgather(np.array(not damage))):
        self._set_aside(damages, step)
        return step, *found
      damages[step] = damage or "on another host"
    if damages:
      listed = "; ".join(f"step {step}: {why}" for step, why in damages.items())
      raise OSError(
        f"every checkpoint in {self._directory} is damaged ({listed}): bring "
        "one back from a copy, or delete the folder to start again"
      )
    return None

  def _read(
    self, step: int, asked: dict[str, str]
  ) -> tuple[Arrays, dict[str, Any]]:
    """The arrays of a checkpoint by leaf, and its manifest."""
    if not (self._directory / str(step) / "manifest").is_dir():
      raise _DamagedError("no checkpoint of this package: it has no manifest")
    with _damage_in("manifest"), _quiet():
      args = ocp.args.Composite(manifest=ocp.args.JsonRestore())
      sealed = self._manager.restore(step, args=args)["manifest"]["sealed"]
      manifest = _unseal(sealed)
    if manifest.get("format") != FORMAT:
      raise ValueError(
        f"the checkpoint of step {step} in {self._directory} has format "
        f"{manifest.get('format', 1)}: expected {FORMAT}; continue with the "
        "version of proxyless_jax that wrote it, or use another folder"
      )
    if differences := _differences(manifest["structure"], asked):
      raise ValueError(
        f"the checkpoint of step {step} in {self._directory} is of another "
        f"run: {differences}; use another folder, or that run's settings and "
        "optimizers"
      )
    return self._arrays(step, manifest["crc32"]), manifest

  def _arrays(self, step: int, checksums: dict[str, int]) -> Arrays:
    """The arrays of a checkpoint with these names, if the checksums agree."""
    kinds = dict.fromkeys(checksums, ocp.RestoreArgs(restore_type=np.ndarray))
    state = ocp.args.PyTreeRestore(
      item=checksums, restore_args=kinds, partial_restore=True
    )
    with _damage_in("state"), _quiet():
      args = ocp.args.Composite(state=state)
      arrays = self._manager.restore(step, args=args)["state"]
      for name, checksum in checksums.items():
        if _crc32(arrays[name]) != checksum:
          raise ValueError(f"the checksum of {name} is wrong")
    return arrays

  def _set_aside(self, damages: dict[int, str], used: int) -> None:
    """Warns of damaged checkpoints and renames them."""
    for step, damage in damages.items():
      aside = self._directory / f"{step}.damaged"
      now = f"; the damaged one is now {aside}" if self._writes else ""
      warnings.warn(
        f"the checkpoint of step {step} is damaged ({damage}): using that of "
        f"step {used}{now}",
        stacklevel=4,
      )
      if self._writes and jax.process_index() == 0:
        shutil.rmtree(aside, ignore_errors=True)
        (self._directory / str(step)).rename(aside)
    if damages and self._writes:
      multihost_utils.sync_global_devices("damaged checkpoints set aside")
      self._manager.reload()


# A class that depends on the machine: epath names its local paths nowhere.
class _LiteralPath(type(epath.Path("/"))):  # type: ignore[misc]
  """A local path whose `*`, `?`, `[` and `]` are ordinary characters.

  Orbax finds the arrays that it has written by a glob below their folder, and
  the paths of `epath` treat the folder's own name as a pattern as well.
  """

  def glob(self, pattern: str) -> Iterator[epath.Path]:
    for name in glob.glob(pattern, root_dir=self):
      yield self / name


class _DamagedError(Exception):
  pass


@contextlib.contextmanager
def _damage_in(item: str):
  try:
    yield
  except (MemoryError, PermissionError):
    raise
  # A damaged file may raise anything: KeyError, ValueError, OSError...
  except Exception as error:
    problem, *_ = f"{type(error).__name__}: {error}".splitlines()
    raise _DamagedError(f"{item}: {problem}") from error


def _counted_devices() -> str:
  counts = {"device": jax.device_count(), "host": jax.process_count()}
  return " of ".join(f"{n} {k}{'s' * (n > 1)}" for k, n in counts.items())


@contextlib.contextmanager
def _quiet():
  """Suppresses Orbax's warnings of damaged files, which errors report."""
  log = logging.getLogger("absl")
  before = log.level
  log.setLevel(logging.ERROR)
  try:
    yield
  finally:
    log.setLevel(before)


def _manifest(leaves, arrays: Arrays, iterators) -> dict:
  """All of a checkpoint that is not in its arrays."""
  return {
    "format": FORMAT,
    "structure": _structure(leaves, iterators),
    "crc32": {name: _crc32(array) for name, array in arrays.items()},
    "key_impl": {
      name: str(jax.random.key_impl(leaf))
      for name, leaf in leaves.items()
      if is_key(leaf)
    },
    "positions": {name: x.get_state() for name, x in iterators.items()},
    "saved_on": _counted_devices(),
  }


def _structure(leaves: dict[str, Any], iterators) -> dict[str, str]:
  """The names, shapes and types that a restore must agree on, as text."""
  structure = {
    f"state{k}": f"{x.dtype}{list(x.shape)}" for k, x in leaves.items()
  }
  return structure | {"iterators": str(sorted(iterators))}


def _differences(saved: dict[str, str], asked: dict[str, str]) -> str:
  found = [
    f"{name}: {saved.get(name, 'nothing')} saved, "
    f"{asked.get(name, 'nothing')} asked for"
    for name in sorted(saved.keys() | asked.keys())
    if saved.get(name) != asked.get(name)
  ]
  more = [f"and {len(found) - 8} more"] if len(found) > 8 else []
  return "; ".join(found[:8] + more)


def _crc32(array: np.ndarray) -> int:
  # As bytes, since the buffer protocol has no bfloat16.
  return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _seal(content) -> str:
  """JSON with its own checksum in front."""
  text = json.dumps(content)
  return f"{zlib.crc32(text.encode()):08x} {text}"


def _unseal(sealed: str):
  checksum, _, text = sealed.partition(" ")
  if checksum != f"{zlib.crc32(text.encode()):08x}":
    raise ValueError("its checksum is wrong")
  return json.loads(text)
