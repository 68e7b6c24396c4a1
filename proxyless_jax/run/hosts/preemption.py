"""SIGTERM and SIGINT (Ctrl-C): a run that is asked to stop saves first.

Clusters send SIGTERM some seconds before they take a machine away. A loop that
takes steps defers the signal: it ends its step, saves, and only then stops.
Outside of such a loop the program ends at once, since its files are whole at
any moment. Either way it exits with 0, since stopping was no error.

Ctrl-C does the same, and exits with 130, as a shell expects; in Python it
raises KeyboardInterrupt. The second Ctrl-C does not wait.

On several hosts each step needs all of them, so that all have to stop after the
same step, whichever host got the signal. JAX's preemption service does this:
its own handler of SIGTERM passes the signal on, and the hosts agree on a step.
Outside of a loop, a signal then waits for the next loop.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

STOPPED = "stopped by SIGTERM: the same command continues from here"
INTERRUPTED = "interrupted: the same command continues from here"
SAVING = (
  "Ctrl-C: ending this step and saving; again, it stops at once without saving"
)
# The exit code by which shells report that Ctrl-C ended a program.
INTERRUPTED_CODE = 130

# JAX's service needs a number that grows by one per call, over all loops.
_calls = itertools.count(1)


class Preempted(SystemExit):
  """SIGTERM stopped the run; a checkpoint to continue from is on disk.

  It is no `Exception`, so that no handler of errors catches it; a program that
  does not catch it exits with 0.
  """

  def __init__(self):
    super().__init__(0)


class Interrupted(KeyboardInterrupt):
  """Ctrl-C stopped the run; a checkpoint to continue from is on disk."""

  def __init__(self):
    super().__init__("saved: the same call, or command, continues from here")


class _Handler:
  """Raises `Preempted` at the first SIGTERM, or only notes it (`waits`)."""

  def __init__(self, waits: bool = False):
    self.waits = waits
    self.noted = False

  def __call__(self, signum, frame) -> None:
    first, self.noted = not self.noted, True
    if first and not self.waits:
      raise Preempted


class _Interrupts:
  """Handles Ctrl-C in a loop: notes the first one, and raises at the next."""

  def __init__(self, program: bool):
    """Does not install the handler.

    Args:
      program: whether the second one ends the process, even while Python waits
        for a compiler; else it raises, since the process is a notebook's.
    """
    self.noted = False
    self._program, self._heard = program, 0

  def __call__(self, signum, frame) -> None:
    if self.noted:
      raise KeyboardInterrupt
    self.noted = True
    if jax.distributed.is_initialized():
      # The service that makes all hosts stop listens only to this signal.
      os.kill(os.getpid(), signal.SIGTERM)

  def hear(self, signum: int) -> None:
    """Called at once in another thread, while `__call__` may have to wait."""
    if signum != signal.SIGINT:
      return
    self._heard += 1
    if self._heard == 1:
      print(SAVING, file=sys.stderr, flush=True)
    elif self._program:
      print("interrupted", file=sys.stderr, flush=True)
      for worker in multiprocessing.active_children():
        worker.kill()
      os._exit(INTERRUPTED_CODE)


@contextlib.contextmanager
def handled() -> Iterator[None]:
  """For a program: SIGTERM raises `Preempted` inside, and prints `STOPPED`.

  It raises at once or, where a loop inside has deferred the signal, at the end
  of the loop. A handler of the user's stays, and so do the handlers where this
  is not the main thread. Ctrl-C that a loop has deferred exits with 130, and
  prints `INTERRUPTED`.
  """
  earlier, free = signal.getsignal(signal.SIGTERM), _is_free(signal.SIGTERM)
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
  except Interrupted:
    print(INTERRUPTED, file=sys.stderr)
    sys.exit(INTERRUPTED_CODE)
  finally:
    if free and not ends:
      signal.signal(signal.SIGTERM, earlier)


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
  """For a loop: SIGTERM and Ctrl-C wait until the end of the block.

      with deferred() as stop_asked:
        while step < steps and not stop:
          ...
          stop = stop_asked()
          if stop or step % every == 0:
            save(step)

  Gives a function that all hosts have to call after every step: whether to save
  and leave the loop, with the same answer on all hosts. The end of the block
  raises `Preempted` or `Interrupted` after such a signal. The second Ctrl-C
  raises KeyboardInterrupt at once, or ends the process where it is a program's.
  Threads other than the main one, and handlers of the user's, are left alone.
  """
  with _interrupts() as interrupts:
    if jax.distributed.is_initialized():
      yield from _agreed(interrupts)
      return
    with _terms() as terms:
      yield lambda: terms.noted or interrupts.noted
    if terms.noted:
      raise Preempted
    if interrupts.noted:
      raise Interrupted


@contextlib.contextmanager
def _interrupts() -> Iterator[_Interrupts]:
  """Notes Ctrl-C inside."""
  program = isinstance(signal.getsignal(signal.SIGTERM), _Handler)
  interrupts = _Interrupts(program)
  if not _is_free(signal.SIGINT):
    yield interrupts
    return
  earlier = signal.signal(signal.SIGINT, interrupts)
  try:
    with _listening(interrupts.hear):
      yield interrupts
  finally:
    signal.signal(signal.SIGINT, earlier)


@contextlib.contextmanager
def _terms() -> Iterator[_Handler]:
  """Notes SIGTERM inside."""
  earlier = signal.getsignal(signal.SIGTERM)
  handler = earlier if isinstance(earlier, _Handler) else _Handler()
  free = _is_free(signal.SIGTERM)
  if free:
    signal.signal(signal.SIGTERM, handler)
  waited, handler.waits = handler.waits, True
  try:
    yield handler
  finally:
    handler.waits = waited
    if free:
      signal.signal(signal.SIGTERM, earlier)


@contextlib.contextmanager
def leaving_by_sigterm() -> Iterator[None]:
  """Around a call that Python's handlers cannot interrupt, under `handled`.

  SIGTERM then ends the process from another thread, at once and with code 0.
  """
  handler = signal.getsignal(signal.SIGTERM)
  in_main = threading.current_thread() is threading.main_thread()
  if not isinstance(handler, _Handler) or not in_main:
    yield
    return

  def hear(signum: int) -> None:
    if signum == signal.SIGTERM:
      print(STOPPED, file=sys.stderr, flush=True)
      os._exit(0)

  with _listening(hear):
    yield


@contextlib.contextmanager
def _listening(hear: Callable[[int], None]) -> Iterator[None]:
  """Calls a function in another thread with every signal, as it comes.

  Python's own handlers wait for the main thread to return from a call, such as
  a compilation of a minute.
  """
  reader, writer = socket.socketpair()
  writer.setblocking(False)

  def listen() -> None:
    with reader:
      while signals := reader.recv(64):
        for signum in signals:
          hear(signum)

  threading.Thread(target=listen, daemon=True).start()
  earlier = signal.set_wakeup_fd(writer.fileno())
  try:
    yield
  finally:
    signal.set_wakeup_fd(earlier)
    writer.close()


@contextlib.contextmanager
def shielded() -> Iterator[None]:
  """Hides SIGTERM and Ctrl-C from threads and processes started inside.

  Slurm and others send SIGTERM to all processes of a job, terminals SIGINT, and
  a step cannot end without the processes that prepare its data. Whoever starts
  something here has to close it: it does not end by these signals.
  """
  # New threads and processes inherit the mask of the thread that starts them.
  signals = {signal.SIGTERM, signal.SIGINT}
  mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _is_free(signum: int) -> bool:
  """Whether a handler may be set here without taking another one's place."""
  if threading.current_thread() is not threading.main_thread():
    return False
  if signum == signal.SIGINT:
    return signal.getsignal(signum) is signal.default_int_handler
  # Python does not know of the handler that JAX's service sets.
  return (
    not jax.distributed.is_initialized()
    and signal.getsignal(signum) is signal.SIG_DFL
  )


def _agreed(interrupts: _Interrupts) -> Iterator[Callable[[], bool]]:
  """As `deferred`, in agreement with the other hosts."""
  stop = False

  def stop_asked() -> bool:
    nonlocal stop
    number = next(_calls)
    stop = multihost_utils.reached_preemption_sync_point(number) or stop
    return stop

  yield stop_asked
  if stop:
    raise Interrupted if interrupts.noted else Preempted
