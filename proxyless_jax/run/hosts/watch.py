"""A connection from every host to the first, by which the end of one ends all.

A host that waits for one that has gone waits in a collective for ever, or until
JAX notices and aborts the process with pages of C++. The kernel notices sooner:
a killed process closes its connection (its "line" here) at once, and a lost
machine stops answering.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import selectors
import socket
import sys
import threading
import time
from typing import NoReturn

# A machine that does not answer is lost after 10 + 3 x 10 seconds.
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
# Seconds by which the first host outlives the others: JAX's service ends with
# it, and the others would be aborted before they have printed why.
LAST_WORDS = 1.0
# The message of the first host when all hosts are done.
ENDED = "ended"


class Watch(threading.Thread):
  """Listens to the other hosts, and ends the process when one has gone."""

  def __init__(self, process: int, lines: dict[socket.socket, str]):
    """Does not yet listen: call `start`.

    Args:
      process: number of this host.
      lines: names of the other hosts by their lines: the first host has a line
        to each other host, the others have one to the first.
    """
    super().__init__(name="watch", daemon=True)
    self._process, self._lines = process, lines
    self._leaving, self._ended = threading.Lock(), False

  def leave(self, code: int, text: str, why: str) -> NoReturn:
    """Ends the process and thereby all others, without waiting for them.

    Args:
      code: exit status.
      text: text for standard error.
      why: reason that the others print.
    """
    self._leaving.acquire()  # Only one thread prints and ends the process.
    if text and sys.__stderr__:
      # Another thread may be inside a print, and hold its lock.
      os.write(sys.__stderr__.fileno(), f"{text.rstrip()}\n".encode())
    for line in self._lines:
      with contextlib.suppress(OSError):  # It may have gone as well.
        line.sendall(why.encode())
    for worker in multiprocessing.active_children():
      worker.kill()  # SIGTERM is blocked in those that prepare data.
    if self._process == 0:
      time.sleep(LAST_WORDS)
    os._exit(code)

  def end(self) -> None:
    """Ends the watch on all hosts, which all have to call it."""
    if self._process == 0:
      self._ended = True
      for line in self._lines:
        line.sendall(ENDED.encode())
    self.join()

  def run(self) -> None:
    """Listens until the run has ended; ends the process if a host has gone."""
    with selectors.DefaultSelector() as selector:
      for line in self._lines:
        selector.register(line, selectors.EVENT_READ, data=line)
      while selector.get_map():
        for key, _ in selector.select():
          line = key.data
          message = self._receive(line)
          if message != ENDED:
            self.leave(1, another(message), message)
          selector.unregister(line)
          line.close()

  def _receive(self, line: socket.socket) -> str:
    """The message of a host, or that it has gone."""
    message = b""
    with contextlib.suppress(OSError):
      message = line.recv(4096)
    # The other hosts close their lines when they have received `ENDED`.
    gone = ENDED if self._ended else f"{self._lines[line]} has gone"
    return message.decode(errors="replace") or gone


def another(why: str) -> str:
  """The error message of a host that stops because another one has."""
  return (
    f"error: another host of this run has stopped ({why}): the same command on "
    "all hosts continues from the last checkpoint"
  )


def listen() -> socket.socket:
  """A socket of the first host for `accept`; the port is free."""
  dual = socket.has_dualstack_ipv6()
  family = socket.AF_INET6 if dual else socket.AF_INET
  return socket.create_server(
    ("", 0), family=family, backlog=1024, dualstack_ipv6=dual
  )


def accept(
  server: socket.socket, processes: int, seconds: float
) -> dict[socket.socket, str]:
  """The lines of the first host, after all others have called.

  Args:
    server: socket of `listen`; it is closed.
    processes: number of hosts.
    seconds: time to wait for the next call.

  Raises:
    TimeoutError: some have not called in time.
  """
  lines: dict[socket.socket, str] = {}
  with server:
    server.settimeout(seconds)
    while len(lines) < processes - 1:
      line, _ = server.accept()
      lines[_kept(line)] = f"host {line.recv(16).decode()}"
  return lines


def call(
  host: str, port: int, process: int, seconds: float
) -> dict[socket.socket, str]:
  """The line of another host to the first.

  Args:
    host, port: address of the first host's `listen`.
    process: number of this host.
    seconds: time to wait for the connection.

  Raises:
    OSError: it cannot be reached.
  """
  line = socket.create_connection((host, port), timeout=seconds)
  line.sendall(str(process).encode())
  return {_kept(line): "host 0"}


def _kept(line: socket.socket) -> socket.socket:
  line.setblocking(True)
  line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
  for name, value in KEEPALIVE.items():
    if hasattr(socket, name):  # Not every system has them.
      line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
  return line
