"""Faults but kills: damaged files, disks that are full or locked, lost data.

Each begins with a search that was stopped in the middle. The command then has
to continue by itself, or to end with one line that says what to do; and mended,
the search has to end as the unbroken one, bit for bit.
"""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

from experiments import short_search
from experiments.short_search import Place

STOP_AT = 20  # The step of the search whose checkpoint is there.


def meet_all(place: Place, expected: dict, times: int, seed: int) -> dict:
  """Each fault so many times.

  Returns:
    By fault, counts of what came of it.
  """
  rng = random.Random(seed)
  base = place.root / "base"
  _stop_in_the_middle(place, base)
  found = {}
  for name, fault in FAULTS.items():
    ends = collections.Counter()
    for i in range(times):
      folder = place.root / f"{fault.__name__}{i}"
      try:
        said = fault(place, base, folder, rng)
      except _CannotTryError as error:
        ends[f"not tried: {error}"] += 1
        continue
      with said as (workdir, text):
        same = short_search.outcome(workdir) == expected
      ends[f"{text}; {'identical' if same else 'NOT identical'}"] += 1
      shutil.rmtree(folder, ignore_errors=True)
    found[name] = dict(ends)
    print(f"{name}: {found[name]}", flush=True)
  return found


class _CannotTryError(Exception):
  pass


def _stop_in_the_middle(place: Place, workdir: pathlib.Path) -> None:
  process = place.start(workdir)
  _wait_until(_saved(workdir, STOP_AT), process)
  process.send_signal(signal.SIGTERM)
  if process.wait(timeout=300) or (workdir / "result.json").exists():
    raise RuntimeError("the search could not be stopped in the middle")


def _saved(workdir: pathlib.Path, step: int):
  folder = workdir / "checkpoints" / "search"
  return lambda: (folder / str(step)).exists()


def _wait_until(reached, process) -> None:
  while not reached():
    if process.poll() is not None:
      raise RuntimeError("the search ended first")
    time.sleep(0.002)


def _damage(hurt):
  """A fault in the newest checkpoint."""

  @contextlib.contextmanager
  def damage(place, base, folder, rng):
    workdir = shutil.copytree(base, folder / "run")
    *_, newest = short_search.checkpoints(workdir)
    hurt(newest, rng)
    text = place.finish(workdir)
    fell_back = "is damaged" in text
    yield workdir, "fell back" if fell_back else "the file is not needed"

  damage.__name__ = hurt.__name__
  return damage


def _any_file(checkpoint: pathlib.Path, rng) -> pathlib.Path:
  files = sorted(p for p in checkpoint.rglob("*") if p.is_file())
  return rng.choice([path for path in files if path.stat().st_size])


def _flip(path: pathlib.Path, rng) -> None:
  content = bytearray(path.read_bytes())
  content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
  path.write_bytes(bytes(content))


def flip(checkpoint, rng):
  """A bit of any file."""
  _flip(_any_file(checkpoint, rng), rng)


def _largest(checkpoint: pathlib.Path) -> pathlib.Path:
  """The file with most of the state."""
  return max(
    checkpoint.rglob("*"), key=lambda p: p.is_file() * p.stat().st_size
  )


def truncate(checkpoint, rng):
  """The largest file, cut anywhere."""
  path = _largest(checkpoint)
  os.truncate(path, rng.randrange(path.stat().st_size))


def delete(checkpoint, rng):
  """The largest file."""
  del rng
  _largest(checkpoint).unlink()


def flip_manifest(checkpoint, rng):
  """A bit of the file that tells what the others hold."""
  _flip(checkpoint / "manifest" / "metadata", rng)


@contextlib.contextmanager
def all_damaged(place, base, folder, rng):
  """Nothing to fall back to; mended by starting anew."""
  workdir = shutil.copytree(base, folder / "run")
  for checkpoint in short_search.checkpoints(workdir):
    flip_manifest(checkpoint, rng)
  said = _error(place.start(workdir), workdir, "every checkpoint in")
  shutil.rmtree(workdir / "checkpoints")
  place.finish(workdir)
  yield workdir, said


@contextlib.contextmanager
def full_disk(place, base, folder, rng):
  """Room for none to a few more checkpoints; mended by more room."""
  with _mounted(folder, "size=8m"):
    workdir = shutil.copytree(base, folder / "run")
    _log_elsewhere(place, workdir)
    free = shutil.disk_usage(folder).free - rng.randint(0, 150_000)
    (folder / "filler").write_bytes(b"x" * free)
    said = _error(place.start(workdir), workdir, "No space left")
    (folder / "filler").unlink()
    place.finish(workdir)
    yield workdir, said


@contextlib.contextmanager
def read_only(place, base, folder, rng):
  """From the start; mended by making it writable."""
  with _mounted(folder, "size=8m"):
    workdir = shutil.copytree(base, folder / "run")
    _log_elsewhere(place, workdir)
    _mount("-o", "remount,ro", folder)
    said = _error(place.start(workdir), workdir, "can be written to")
    _mount("-o", "remount,rw", folder)
    place.finish(workdir)
    yield workdir, said


@contextlib.contextmanager
def locked_in_the_middle(place, base, folder, rng):
  """No new checkpoint can be made in the folder; mended by unlocking it."""
  workdir = shutil.copytree(base, folder / "run")
  process = place.start(workdir)
  step = STOP_AT + 5 * rng.randint(1, 4)
  _wait_until(_saved(workdir, step), process)
  checkpoints = workdir / "checkpoints" / "search"
  locked = subprocess.run(["chattr", "+i", checkpoints], capture_output=True)
  if locked.returncode:
    process.kill()
    process.wait()
    raise _CannotTryError("no chattr")
  said = _error(process, workdir, "Operation not permitted")
  subprocess.run(["chattr", "-i", checkpoints], check=True)
  place.finish(workdir)
  yield workdir, said


@contextlib.contextmanager
def no_data(place, base, folder, rng):
  """From the start; mended by bringing the folder back."""
  workdir = shutil.copytree(base, folder / "run")
  with _away(place.data):
    said = _error(place.start(workdir), workdir, "expected a folder")
  place.finish(workdir)
  yield workdir, said


@contextlib.contextmanager
def data_lost_in_the_middle(place, base, folder, rng):
  """As images are read; mended by bringing the folder back."""
  workdir = shutil.copytree(base, folder / "run")
  process = place.start(workdir)
  _wait_until(_saved(workdir, STOP_AT + 5 * rng.randint(1, 4)), process)
  with _away(place.data):
    said = _error(process, workdir, str(place.data))
  place.finish(workdir)
  yield workdir, said


FAULTS = {
  "newest checkpoint, a flipped bit": _damage(flip),
  "newest checkpoint, a truncated file": _damage(truncate),
  "newest checkpoint, a deleted file": _damage(delete),
  "newest checkpoint, a flipped bit in the manifest": _damage(flip_manifest),
  "all checkpoints damaged": all_damaged,
  "full disk": full_disk,
  "read-only workdir": read_only,
  "workdir locked in the middle": locked_in_the_middle,
  "data folder gone at the start": no_data,
  "data folder gone in the middle": data_lost_in_the_middle,
}


def _error(process, workdir: pathlib.Path, expected: str) -> str:
  """What came of a run that had to fail: its last line has to say why."""
  code = process.wait(timeout=300)
  lines = short_search.log_of(workdir).read_text().splitlines() or [""]
  clear = lines[-1].startswith("error: ") and expected in lines[-1]
  if code == 1 and clear:
    return "one line says what to do"
  print(f"exit {code}: {lines[-1]}", flush=True)
  return f"exit {code}, UNCLEAR"


@contextlib.contextmanager
def _away(folder: pathlib.Path):
  elsewhere = folder.with_name("elsewhere")
  folder.rename(elsewhere)
  try:
    yield
  finally:
    elsewhere.rename(folder)


@contextlib.contextmanager
def _mounted(folder: pathlib.Path, options: str):
  folder.mkdir()
  try:
    _mount("-t", "tmpfs", "-o", options, "tmpfs", folder)
  except (OSError, subprocess.CalledProcessError) as error:
    raise _CannotTryError("no file system can be mounted") from error
  try:
    yield
  finally:
    subprocess.run(["umount", "--lazy", folder], check=True)


def _log_elsewhere(place: Place, workdir: pathlib.Path) -> None:
  """Else what is printed would meet the same fault."""
  short_search.log_of(workdir).symlink_to(place.root / "elsewhere.txt")


def _mount(*arguments) -> None:
  subprocess.run(["mount", *arguments], check=True, capture_output=True)
