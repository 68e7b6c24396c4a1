"""Several hosts as one run: joined, in agreement, and ended together.

A host is a process of JAX's distributed system; the first one, process 0, runs
its coordination service. Whoever loses another host would wait in a collective
for ever, or be aborted by JAX with pages of C++. So a thread of every host
listens for the end of the run, and ends the process in one line.
"""

from __future__ import annotations

import builtins
import contextlib
import itertools
import json
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

import jax

# The key-value store of the hosts has no public name; Orbax takes it here too.
from jax._src import distributed

from proxyless_jax.run.joining import Place, join

T = TypeVar("T")

# Seconds. A host that is silent for so long is lost: a busy or paused one comes
# back, and all others know within a minute.
BEAT, SILENCE = 5.0, 40.0
# JAX's own patience, and for a main thread to say itself why it stops.
HEARTBEAT, GRACE = 60, 2.0
# As long as the store can wait: the watch ends what waits in vain.
FOREVER = 2**31 - 1  # Milliseconds, 24 days.
# Keys of the store.
STOPPED, BEATS, FIRST = (
  f"proxyless_jax/{key}" for key in ("stopped", "beats", "first")
)
ENDED = "ended"
# In the errors of what lost another host: the libraries have no class for it.
LOST = ("Gloo", "NCCL", "UNAVAILABLE", "Barrier", "coordination service")

_calls = itertools.count()
_leaving = threading.Lock()
_watch: _Watch | None = None


def start(place: Place | None) -> None:
  """Joins the hosts of a run; before any device is used.

  Args:
    place: of this host among the others; None for a run of one host.

  Raises:
    ValueError: no cluster that JAX knows.
    ConnectionError: the other hosts cannot be reached.
  """
  global _watch
  if place is None:
    return
  join(place, HEARTBEAT)
  state = distributed.global_state
  _watch = _Watch(state.client, state.process_id, state.num_processes)
  _watch.start()


def first() -> bool:
  """Whether this host is the one that writes and prints."""
  return jax.process_index() == 0


def share() -> tuple[int, int]:
  """(index, count): which of how many equal parts of the data to read."""
  return jax.process_index(), jax.process_count()


def on_first(function: Callable[[], T]) -> T:
  """Lets the first host call a function; the others wait for its end.

  All hosts make the same calls in the same order.

  Args:
    function: gives what JSON can hold.

  Returns:
    What it gave on the first host, on all hosts; tuples become lists.

  Raises:
    What the function raised on the first host: on the others the nearest
    built-in class of it, with the same text.
  """
  if jax.process_count() == 1:
    return function()
  client, key = distributed.global_state.client, f"{FIRST}/{next(_calls)}"
  if not first():
    return _opened(client.blocking_key_value_get(key, FOREVER))
  try:
    result = function()
    said = json.dumps({"result": result})
  except Exception as error:
    kinds = [kind.__name__ for kind in type(error).__mro__]
    said = json.dumps({"kinds": kinds, "text": str(error)})
    client.key_value_set(key, said)
    raise
  client.key_value_set(key, said)
  return _opened(said)


def _opened(said: str):
  """The result that the first host told, or its error."""
  said = json.loads(said)
  if "result" in said:
    return said["result"]
  for kind in said["kinds"]:
    # Some cannot be made of a text alone, such as UnicodeDecodeError.
    with contextlib.suppress(TypeError, AttributeError):
      raise getattr(builtins, kind)(said["text"])
  raise RuntimeError(said["text"])


def check_same(what: str, value) -> None:
  """Checks that a value is the same on all hosts.

  Args:
    what: the value is, for people.
    value: that JSON can hold.

  Raises:
    ValueError: on this host it is another one than on the first.
  """
  value = json.dumps(value)
  of_first = on_first(lambda: value)
  if value != of_first:
    raise ValueError(
      f"{what}: host {jax.process_index()} has another than the first host: "
      "start all hosts with the same command, files and versions; here it is "
      f"{value[:200]}, there {of_first[:200]}"
    )


def refuse_several(what: str) -> None:
  """Raises a ValueError in a run of several hosts.

  Args:
    what: is for one host alone.
  """
  if jax.process_count() > 1:
    raise ValueError(
      f"{what}: expected 1 host, got {jax.process_count()}: start it on one, "
      "without --distributed and --coordinator"
    )


@contextlib.contextmanager
def leaving() -> Iterator[None]:
  """Around all that a process does: ends it together with the other hosts.

  What succeeds waits for the others. What fails tells them, and ends the
  process at once: JAX would wait for the others at the exit, which wait in a
  collective for this one.
  """
  try:
    yield
  except SystemExit as error:
    if _watch is not None:
      if error.code:
        _fail(error)
      _end()
    raise
  except BaseException as error:
    if _watch is not None:
      _fail(error)
    raise
  else:
    if _watch is not None:
      _end()


def _end() -> None:
  """Ends the watch and the service when all hosts are done."""
  global _watch
  client = _watch.client
  try:
    client.wait_at_barrier(ENDED, FOREVER)
    if _watch.process == 0:
      client.key_value_set(STOPPED, ENDED)
    _watch.join()
    jax.distributed.shutdown()
  except RuntimeError as error:
    _fail(error)
  _watch = None


def _fail(error: BaseException) -> NoReturn:
  """Says why, on this host and to the others, and ends the process."""
  client, process = _watch.client, _watch.process
  if _has_lost(error):
    # It may have told why before it went.
    _watch.join(GRACE)
    _fall_silent(client, f"host {process} has lost it: {_last_line(error)}")
    _leave(1, _another(_last_line(error)))
  code, text = 1, "".join(traceback.format_exception(error))
  if isinstance(error, SystemExit):
    said = isinstance(error.code, int)
    code, text = (error.code, "") if said else (1, error.code)
  _fall_silent(client, f"host {process}: {_last_line(error)}")
  if process == 0:
    # With it goes the store, where the others read why.
    time.sleep(GRACE / 2)
  _leave(code, str(text))


def _fall_silent(client, why: str) -> None:
  # Another may have been faster, or the store may be gone.
  with contextlib.suppress(RuntimeError):
    client.key_value_set(STOPPED, why)


def _has_lost(error: BaseException | None) -> bool:
  """Whether an error, or one behind it, comes of another host's end."""
  while error is not None:
    kinds = jax.errors.JaxRuntimeError, ValueError, RuntimeError
    if isinstance(error, kinds) and any(w in str(error) for w in LOST):
      return True
    error = error.__cause__ or error.__context__
  return False


def _last_line(error: BaseException) -> str:
  text = str(error) or type(error).__name__
  return " ".join(text.split()).removeprefix("error: ")[:300]


def _another(why: str) -> str:
  return (
    f"error: another host of this run has stopped ({why}): the same command on "
    "all hosts goes on from the last checkpoint"
  )


def _leave(code: int, text: str) -> NoReturn:
  """Ends the process without waiting for anything, another host least."""
  _leaving.acquire()  # Of two threads, one speaks.
  if text:
    # Another thread may be inside a print, and hold its lock.
    os.write(sys.__stderr__.fileno(), f"{text.rstrip()}\n".encode())
  for worker in multiprocessing.active_children():
    worker.terminate()
  os._exit(code)


class _Watch(threading.Thread):
  """Tells the others that this host lives; ends it when the run has stopped."""

  def __init__(self, client, process: int, processes: int):
    super().__init__(name="hosts", daemon=True)
    self.client, self.process = client, process
    now = time.monotonic()
    # By host: its last beat, and when it came.
    self._heard = {str(p): ("", now) for p in range(processes)}

  def run(self) -> None:
    for beat in itertools.count():
      try:
        why = self.client.blocking_key_value_get(STOPPED, int(1e3 * BEAT))
      except RuntimeError as error:
        if "DEADLINE_EXCEEDED" not in str(error):
          # No grace: JAX is about to abort the process.
          _leave(1, _another("the first host cannot be reached"))
      else:
        break
      self._beat(beat)
    if why == ENDED:
      return
    time.sleep(GRACE)
    _leave(1, _another(why))

  def _beat(self, beat: int) -> None:
    key = f"{BEATS}/{self.process}"
    with contextlib.suppress(RuntimeError):  # The next wait will say it.
      self.client.key_value_set(key, str(beat), allow_overwrite=True)
      if self.process == 0:
        self._listen()

  def _listen(self) -> None:
    now = time.monotonic()
    for key, beat in self.client.key_value_dir_get(BEATS):
      host = key.rpartition("/")[2]
      if beat != self._heard[host][0]:
        self._heard[host] = beat, now
    for host, (_, last) in self._heard.items():
      if now - last > SILENCE:
        _fall_silent(self.client, f"host {host} is silent for {SILENCE:.0f} s")
