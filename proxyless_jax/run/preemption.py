"""SIGTERM: the notice that a machine is about to be taken away.

Clusters send it some seconds before they end a program. A loop that takes
steps puts the notice off: it ends its step, saves, and only then stops. Where
nothing is put off, the program ends at once, since what it has on disk is
whole at any moment. Either way it exits 0: it did as it was told.

On several hosts the steps need all of them, so all have to stop after the same
one, whichever was told. JAX's preemption service brings that about: its own
handler passes the notice on, and the hosts agree on a step. Outside a loop a
notice then waits for the next loop.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

STOPPED = "stopped by SIGTERM: the same command goes on from here"

# JAX's service wants a number that grows by one a call, in all loops together.
_calls = itertools.count(1)


class Preempted(SystemExit):
  """The run stopped as SIGTERM asked; what it needs to go on is on disk.

  No `Exception`, so that nobody takes it for an error, and a program that does
  not catch it exits 0.
  """

  def __init__(self):
    super().__init__(0)


class _Handler:
  """Raises `Preempted` at the first SIGTERM, or notes it where that waits."""

  def __init__(self, waits: bool = False):
    self.waits = waits
    self.told = False

  def __call__(self, signum, frame) -> None:
    first, self.told = not self.told, True
    if first and not self.waits:
      raise Preempted


@contextlib.contextmanager
def handled() -> Iterator[None]:
  """For a program: SIGTERM raises `Preempted` inside, and prints `STOPPED`.

  At once, or where a loop inside has put it off, when that lets it through. A
  handler of the user's, or another thread than the main one, is left alone.
  """
  earlier, free = signal.getsignal(signal.SIGTERM), _is_free()
  ends = False
  if free:
    signal.signal(signal.SIGTERM, _Handler())
  try:
    yield
  except Preempted:
    # The handler stays: a second SIGTERM must not change how the program ends.
    ends = True
    print(STOPPED, file=sys.stderr)
    raise
  finally:
    if free and not ends:
      signal.signal(signal.SIGTERM, earlier)


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
  """For a loop: SIGTERM waits until the end of the block.

      with deferred() as told:
        while step < steps and not stop:
          ...
          stop = told()
          if stop or step % every == 0:
            save(step)

  Gives a function to call after every step, on all hosts alike: whether to
  save and leave the loop, the same on all hosts. The end of the block raises
  `Preempted` where it was told to.
  """
  if jax.distributed.is_initialized():
    yield from _agreed()
    return
  handler = signal.getsignal(signal.SIGTERM)
  if isinstance(handler, _Handler):
    yield from _noted(handler)
  elif _is_free():
    noted = _Handler()
    signal.signal(signal.SIGTERM, noted)
    try:
      yield from _noted(noted)
    finally:
      signal.signal(signal.SIGTERM, handler)
  else:
    yield lambda: False


@contextlib.contextmanager
def leaving_by_sigterm() -> Iterator[None]:
  """Around a call that Python's handlers cannot interrupt, under `handled`.

  SIGTERM then ends the process from another thread, at once and with exit 0.
  """
  handler = signal.getsignal(signal.SIGTERM)
  in_main = threading.current_thread() is threading.main_thread()
  if not isinstance(handler, _Handler) or not in_main:
    yield
    return
  heard, told = socket.socketpair()
  told.setblocking(False)

  def listen():
    while signals := heard.recv(64):
      if signal.SIGTERM in signals:
        print(STOPPED, file=sys.stderr, flush=True)
        os._exit(0)

  threading.Thread(target=listen, daemon=True).start()
  earlier = signal.set_wakeup_fd(told.fileno())
  try:
    yield
  finally:
    signal.set_wakeup_fd(earlier)
    told.close()


@contextlib.contextmanager
def shielded() -> Iterator[None]:
  """Threads and processes that are started inside never see SIGTERM.

  Slurm and others send it to all processes of a job, and a step cannot end
  without the processes that prepare its data. Close what is started here: it
  does not end by SIGTERM.
  """
  # A new thread, and the processes that it starts, have the mask of its maker.
  mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _is_free() -> bool:
  """Whether a handler may be set here without taking another one's place."""
  # Python does not know of the handler that JAX's service sets.
  return (
    not jax.distributed.is_initialized()
    and threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
  )


def _noted(handler: _Handler) -> Iterator[Callable[[], bool]]:
  waited, handler.waits = handler.waits, True
  try:
    yield lambda: handler.told
  finally:
    handler.waits = waited
  if handler.told:
    raise Preempted


def _agreed() -> Iterator[Callable[[], bool]]:
  stop = False

  def told() -> bool:
    nonlocal stop
    number = next(_calls)
    stop = multihost_utils.reached_preemption_sync_point(number) or stop
    return stop

  yield told
  if stop:
    raise Preempted
