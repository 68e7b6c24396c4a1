"""A line from every host to the first, by which the end of one ends all.

Whoever waits for a host that has gone waits in a collective for ever, or until
JAX misses it and aborts the process with pages of C++. Here the kernel tells:
a killed process closes its line at once, a lost machine stops answering.
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

# Seconds until a machine that does not answer is lost: 10 + 3 x 10.
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
# Seconds by which the first host outlives the others: with it goes JAX's
# service, and they would be aborted before they have spoken.
LAST_WORDS = 1.0
# What the first host says when all hosts are done.
ENDED = "ended"


class Watch(threading.Thread):
  """Listens to the other hosts, and ends the process when one has gone."""

  def __init__(self, process: int, lines: dict[socket.socket, str]):
    """Call `start` then.

    Args:
      process: which host this is.
      lines: to the others, with their names: of the first host to all others,
        of these to the first.
    """
    super().__init__(name="watch", daemon=True)
    self._process, self._lines = process, lines
    self._leaving, self._ended = threading.Lock(), False

  def leave(self, code: int, text: str, why: str) -> NoReturn:
    """Ends the process, and by it all others; waits for nothing they do.

    Args:
      code: exit status.
      text: for standard error.
      why: what the others say.
    """
    self._leaving.acquire()  # Of two threads, one speaks.
    if text:
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
    """Returns when all hosts watch no more; all have to call it."""
    if self._process == 0:
      self._ended = True
      for line in self._lines:
        line.sendall(ENDED.encode())
    self.join()

  def run(self) -> None:
    """Returns when the run has ended, and never from one that has stopped."""
    with selectors.DefaultSelector() as selector:
      for line in self._lines:
        selector.register(line, selectors.EVENT_READ)
      while selector.get_map():
        for key, _ in selector.select():
          said = self._hear(key.fileobj)
          if said != ENDED:
            self.leave(1, another(said), said)
          selector.unregister(key.fileobj)
          key.fileobj.close()

  def _hear(self, line: socket.socket) -> str:
    """What a host says, or that it has gone."""
    said = b""
    with contextlib.suppress(OSError):
      said = line.recv(4096)
    # Of the others, each closes its line when it has heard of the end.
    gone = ENDED if self._ended else f"{self._lines[line]} has gone"
    return said.decode(errors="replace") or gone


def another(why: str) -> str:
  """The line of a host that stops since another one has."""
  return (
    f"error: another host of this run has stopped ({why}): the same command on "
    "all hosts goes on from the last checkpoint"
  )


def listen() -> socket.socket:
  """A socket of the first host for `accept`; the port is free."""
  if socket.has_dualstack_ipv6():
    address = dict(family=socket.AF_INET6, dualstack_ipv6=True)
  else:
    address = {}
  return socket.create_server(("", 0), backlog=1024, **address)


def accept(
  server: socket.socket, processes: int, seconds: float
) -> dict[socket.socket, str]:
  """The lines of the first host, when all others have called.

  Raises:
    TimeoutError: some have not called within so many seconds.
  """
  lines = {}
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
    if hasattr(socket, name):  # Not on every system.
      line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
  return line
