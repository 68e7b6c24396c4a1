"""Several hosts as one run: joined, in agreement, and ended together.

A host is a process of JAX's distributed system, and the first one is process 0.
What one of them does for all, the others learn through JAX's key-value store;
`watch` ends them all when one has gone.
"""

from __future__ import annotations

import builtins
import contextlib
import itertools
import json
import os
import pathlib
import secrets
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

import jax

# The key-value store of the hosts has no public name; Orbax takes it here too.
from jax._src import distributed

from proxyless_jax.run.hosts import watch
from proxyless_jax.run.hosts.joining import WAIT, Place, join
from proxyless_jax.run.hosts.preemption import Interrupted

T = TypeVar("T")

# Seconds to hear why another host has gone, where its end was felt first.
GRACE = 3.0
# Seconds until a file of the first host has to be seen by all.
SEEN = 20.0
# As long as JAX's store can wait: who waits in vain is ended by the watch.
FOREVER = 2**31 - 1  # Milliseconds, 24 days.
# In the errors of what lost another host: the libraries have no class for it.
LOST = ("Gloo", "NCCL", "UNAVAILABLE", "Barrier", "coordination service")

_calls = itertools.count()
_watch: watch.Watch | None = None


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
  join(place)
  state = distributed.global_state
  _watch = watch.Watch(state.process_id, _lines(state))
  _watch.start()


def _lines(state):
  """The lines of this host, when all hosts have theirs."""
  key = "proxyless_jax/watch"
  if state.process_id == 0:
    server = watch.listen()
    state.client.key_value_set(key, str(server.getsockname()[1]))
    return watch.accept(server, state.num_processes, WAIT)
  port = int(state.client.blocking_key_value_get(key, 1000 * WAIT))
  host = state.coordinator_address.rpartition(":")[0].strip("[]")
  return watch.call(host, port, state.process_id, WAIT)


def first() -> bool:
  """Whether this host is the one that writes and prints."""
  return jax.process_index() == 0


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
  client, key = distributed.global_state.client, f"proxyless_jax/{next(_calls)}"
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
    pairs = itertools.takewhile(lambda ab: ab[0] == ab[1], zip(value, of_first))
    begin = max(0, len(list(pairs)) - 60)
    here, there = value[begin : begin + 120], of_first[begin : begin + 120]
    raise ValueError(
      f"{what}: host {jax.process_index()} has another than the first host: "
      "start all hosts with the same command, files and versions; here it is "
      f"... {here} ..., there ... {there} ..."
    )


def check_shared(folder: str | os.PathLike) -> None:
  """Checks that all hosts see one and the same folder.

  Args:
    folder: is there on the first host.

  Raises:
    ValueError: this host does not see what the first one wrote there.
  """
  if jax.process_count() == 1:
    return
  client = distributed.global_state.client
  name = on_first(lambda: f"seen-{secrets.token_hex(8)}.tmp")
  path = os.path.join(folder, name)
  if first():
    pathlib.Path(path).touch()
  client.wait_at_barrier(f"wrote {name}", FOREVER)
  end = time.monotonic() + SEEN
  while not os.path.exists(path):
    if time.monotonic() > end:
      raise ValueError(
        f"workdir = {os.path.abspath(folder)}: host {jax.process_index()} does "
        "not see what the first host writes there: expected one folder, the "
        "same path on a file system that all hosts share"
      )
    time.sleep(0.2)
    # A network's file system may remember that a file was not there.
    with contextlib.suppress(OSError):
      os.listdir(folder)
  client.wait_at_barrier(f"saw {name}", FOREVER)
  if first():
    os.remove(path)


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
  except Interrupted:  # All hosts have left their loops at the same step.
    if _watch is not None:
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
  try:
    distributed.global_state.client.wait_at_barrier("ended", FOREVER)
    _watch.end()
    jax.distributed.shutdown()
  except (RuntimeError, OSError) as error:
    _fail(error)
  _watch = None


def _fail(error: BaseException) -> NoReturn:
  """Says why, on this host and to the others, and ends the process."""
  sys.stdout.flush()
  if _has_lost(error):
    # The watch may hear why, and end the process.
    _watch.join(GRACE)
    why = _line(error)
    _watch.leave(1, watch.another(why), why)
  code, text = 1, "".join(traceback.format_exception(error))
  if isinstance(error, SystemExit):
    said = isinstance(error.code, int)
    code, text = (error.code, "") if said else (1, error.code)
  process = distributed.global_state.process_id
  _watch.leave(code, text, f"host {process}: {_line(error)}")


def _has_lost(error: BaseException | None) -> bool:
  """Whether an error, or one behind it, comes of another host's end."""
  while error is not None:
    kinds = RuntimeError, ValueError, OSError
    if isinstance(error, kinds) and any(word in str(error) for word in LOST):
      return True
    error = error.__cause__ or error.__context__
  return False


def _line(error: BaseException) -> str:
  text = str(error) or type(error).__name__
  return " ".join(text.split()).removeprefix("error: ")[:300]
