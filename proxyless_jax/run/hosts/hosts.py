"""Several hosts as one run: joined, in agreement, and ended together.

A host is a process of JAX's distributed system; the first one is process 0.
Results of the first host reach the others through JAX's key-value store;
`watch` ends all hosts when one has gone.
"""

from __future__ import annotations

import builtins
import contextlib
import itertools
import json
import os
import pathlib
import secrets
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, TypeVar

import jax

# The key-value store of the hosts has no public name; Orbax takes it here too.
from jax._src import distributed

from proxyless_jax.run.hosts import watch
from proxyless_jax.run.hosts.joining import WAIT, Rendezvous, join
from proxyless_jax.run.hosts.preemption import Interrupted

T = TypeVar("T")

# Seconds to wait for the reason of another host's end, after an error that its
# end has caused here.
GRACE = 3.0
# Seconds until all hosts have to see a file of the first one.
SEEN = 20.0
# The longest that JAX's store can wait; the watch ends hosts that wait in vain.
FOREVER = 2**31 - 1  # Milliseconds, 24 days.
# Words in the errors of libraries that lost another host: there is no class.
LOST = ("Gloo", "NCCL", "UNAVAILABLE", "Barrier", "coordination service")

_calls = itertools.count()
_watch: watch.Watch | None = None


def start(rendezvous: Rendezvous | None) -> None:
  """Joins the hosts of a run; before any device is used.

  Args:
    rendezvous: address of the first host, and the number of this one; None
      for a run of one host.

  Raises:
    ValueError: JAX finds no cluster.
    ConnectionError: the other hosts cannot be reached.
  """
  global _watch
  if rendezvous is None:
    return
  join(rendezvous)
  state = distributed.global_state
  _watch = watch.Watch(state.process_id, _lines(state))
  _watch.start()


def _client() -> Any:
  """JAX's key-value store and barriers; only where there are several hosts."""
  return distributed.global_state.client


def _lines(state: Any) -> dict[socket.socket, str]:
  """The lines of this host; returns when all hosts have theirs."""
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
  """Calls a function on the first host only; the others wait for its end.

  All hosts make the same calls in the same order.

  Args:
    function: function without arguments, whose result JSON can hold.

  Returns:
    On all hosts, the result on the first one; tuples become lists.

  Raises:
    Exception: the error of the function on the first host; on the others, its
      nearest built-in class with the same text.
  """
  if jax.process_count() == 1:
    return function()
  client, key = _client(), f"proxyless_jax/{next(_calls)}"
  if not first():
    return _unpacked(client.blocking_key_value_get(key, FOREVER))
  try:
    result = function()
    message = json.dumps({"result": result})
  except Exception as error:
    kinds = [kind.__name__ for kind in type(error).__mro__]
    message = json.dumps({"kinds": kinds, "text": str(error)})
    client.key_value_set(key, message)
    raise
  client.key_value_set(key, message)
  return _unpacked(message)


def _unpacked(message: str) -> Any:
  """The result in a message of the first host; raises if it has an error."""
  content = json.loads(message)
  if "result" in content:
    return content["result"]
  for kind in content["kinds"]:
    # Some need more than a text, such as UnicodeDecodeError.
    with contextlib.suppress(TypeError, AttributeError):
      raise getattr(builtins, kind)(content["text"])
  raise RuntimeError(content["text"])


def print_lines(lines: Iterable[str]) -> None:
  """Prints lines for the user on standard error, on the first host only."""
  if first():
    for line in lines:
      print(line, file=sys.stderr, flush=True)


def check_same(what: str, value: Any) -> None:
  """Checks that a value is the same on all hosts.

  Args:
    what: name of the value, for people.
    value: value that JSON can hold.

  Raises:
    ValueError: this host has another value than the first one.
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
    folder: folder that exists on the first host.

  Raises:
    ValueError: this host does not see a file that the first one wrote there.
  """
  if jax.process_count() == 1:
    return
  client = _client()
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
    # Refreshes a network file system, which may cache that there is no file.
    with contextlib.suppress(OSError):
      os.listdir(folder)
  client.wait_at_barrier(f"saw {name}", FOREVER)
  if first():
    os.remove(path)


def refuse_several(what: str) -> None:
  """Raises a ValueError in a run of several hosts.

  Args:
    what: name of the job that runs on one host only.
  """
  if jax.process_count() > 1:
    raise ValueError(
      f"{what}: expected 1 host, got {jax.process_count()}: start it on one, "
      "without --distributed and --coordinator"
    )


@contextlib.contextmanager
def leaving() -> Iterator[None]:
  """Wraps all work of a process: ends it together with the other hosts.

  After success, it waits for the others. After an error, it informs them and
  ends the process at once: on a normal exit JAX would wait for the others,
  which wait in a collective for this one.
  """
  try:
    yield
  except SystemExit as error:
    if _watch is not None:
      if error.code:
        _fail(error, _watch)
      _end(_watch)
    raise
  except Interrupted:  # All hosts have left their loops at the same step.
    if _watch is not None:
      _end(_watch)
    raise
  except BaseException as error:
    if _watch is not None:
      _fail(error, _watch)
    raise
  else:
    if _watch is not None:
      _end(_watch)


def _end(watching: watch.Watch) -> None:
  """Ends the watch and the service when all hosts are done."""
  global _watch
  try:
    _client().wait_at_barrier("ended", FOREVER)
    watching.end()
    jax.distributed.shutdown()
  except (RuntimeError, OSError) as error:
    _fail(error, watching)
  _watch = None


def _fail(error: BaseException, watching: watch.Watch) -> NoReturn:
  """Reports an error here and to the other hosts, and ends the process."""
  sys.stdout.flush()
  if _has_lost(error):
    # The watch may receive the reason, and end the process.
    watching.join(GRACE)
    why = _line(error)
    watching.leave(1, watch.another(why), why)
  code, text = 1, "".join(traceback.format_exception(error))
  if isinstance(error, SystemExit):
    given = error.code
    code, text = (given, "") if isinstance(given, int) else (1, str(given))
  process = distributed.global_state.process_id
  watching.leave(code, text, f"host {process}: {_line(error)}")


def _has_lost(error: BaseException | None) -> bool:
  """Whether another host's end caused an error, or one of its causes."""
  while error is not None:
    kinds = RuntimeError, ValueError, OSError
    if isinstance(error, kinds) and any(word in str(error) for word in LOST):
      return True
    error = error.__cause__ or error.__context__
  return False


def _line(error: BaseException) -> str:
  text = str(error) or type(error).__name__
  return " ".join(text.split()).removeprefix("error: ")[:300]
