"""How a host finds the others: by flags, or by its cluster's launcher."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import sys
import threading
from collections.abc import Iterator

import jax

from proxyless_jax.run.hosts.preemption import leaving_by_sigterm

# Seconds for all hosts to join: a cluster may start them minutes apart.
WAIT = 300
# Seconds of silence of one host after which JAX aborts all hosts.
HEARTBEAT = 50
# Environment variables that torchrun and its like set for each process.
TORCHRUN = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK")
COORDINATOR = "JAX_COORDINATOR_ADDRESS"
# Set where torchrun itself listens at MASTER_PORT.
AGENT = "TORCHELASTIC_USE_AGENT_STORE"


@dataclasses.dataclass(frozen=True)
class Rendezvous:
  """Where hosts meet, and which of them this is; JAX finds what is None.

  Attributes:
    coordinator: HOST:PORT where the first host listens.
    processes: number of hosts.
    process: number of this host, from 0.
    device: the only local device that it uses; None for all.
  """

  coordinator: str | None = None
  processes: int | None = None
  process: int | None = None
  device: int | None = None


def find_rendezvous(
  detect: bool,
  coordinator: str | None,
  processes: int | None,
  process: int | None,
) -> Rendezvous | None:
  """The rendezvous that flags and environment name; None for one host.

  Args:
    detect: whether to ask Slurm, Kubernetes, Cloud TPU, Open MPI or `torchrun`;
      JAX knows all but the last.
    coordinator, processes, process: fields of `Rendezvous`, given together; the
      coordinator may be in JAX_COORDINATOR_ADDRESS.

  Raises:
    ValueError: some of the values are missing, or wrong.
  """
  given = coordinator, processes, process
  if given == (None, None, None):
    return _detected() if detect else None
  if detect:
    raise ValueError(
      "--distributed: expected alone, since it finds --coordinator, "
      "--processes and --process: leave it out, or those"
    )
  coordinator = coordinator or os.environ.get(COORDINATOR)
  if coordinator is None or processes is None or process is None:
    raise ValueError(
      f"--coordinator={coordinator} --processes={processes} "
      f"--process={process}: expected all three, such as "
      "--coordinator=10.0.0.1:1234 --processes=2 --process=0"
    )
  return _checked(coordinator, processes, process, None)


def _detected() -> Rendezvous:
  if not all(name in os.environ for name in TORCHRUN):
    return Rendezvous()
  host, *numbers = (os.environ[name] for name in TORCHRUN)
  try:
    port, processes, process = map(int, numbers)
    rank = os.environ.get("LOCAL_RANK")
    device = None if rank is None else int(rank)
  except ValueError as error:
    names = ", ".join((*TORCHRUN[1:], "LOCAL_RANK"))
    raise ValueError(f"{names}: expected integers: {error}") from error
  port += os.environ.get(AGENT) == "True"
  return _checked(f"{host}:{port}", processes, process, device)


def _checked(
  coordinator: str, processes: int, process: int, device: int | None
) -> Rendezvous:
  host, _, port = coordinator.rpartition(":")
  if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
    raise ValueError(
      f"--coordinator={coordinator}: expected HOST:PORT of the first host, "
      "such as 10.0.0.1:1234"
    )
  if processes < 1:
    raise ValueError(f"--processes={processes}: expected 1 or more")
  if not 0 <= process < processes:
    raise ValueError(
      f"--process={process}: expected 0 to {processes - 1}, since "
      f"--processes={processes}"
    )
  return Rendezvous(coordinator, processes, process, device)


def join(rendezvous: Rendezvous) -> None:
  """Starts JAX's distributed system.

  Args:
    rendezvous: address of the first host, and the number of this one.

  Raises:
    ValueError: no cluster was detected.
    ConnectionError: the port of the first host is taken.
  """
  if rendezvous.process == 0 and rendezvous.coordinator is not None:
    _check_port(int(rendezvous.coordinator.rpartition(":")[2]))
  with _patience(rendezvous):
    try:
      jax.distributed.initialize(
        rendezvous.coordinator,
        rendezvous.processes,
        rendezvous.process,
        rendezvous.device,
        # Longer than ours, since JAX would abort with pages of C++.
        initialization_timeout=2 * WAIT,
        heartbeat_timeout_seconds=HEARTBEAT,
      )
    except (ValueError, RuntimeError, KeyError) as error:
      raise ValueError(
        f"--distributed: JAX found no cluster ({error}): start the program by "
        "Slurm, Kubernetes, Cloud TPU, Open MPI or torchrun, or give "
        "--coordinator, --processes and --process"
      ) from error


def _check_port(port: int) -> None:
  """Refuses a port that is in use, with which JAX would crash."""
  try:
    socket.create_server(("", port)).close()
  except OSError as error:
    raise ConnectionError(
      f"--coordinator: port {port} of this host cannot be used ({error}): "
      "end what listens there, or take another port on all hosts"
    ) from error


@contextlib.contextmanager
def _patience(rendezvous: Rendezvous) -> Iterator[None]:
  """Ends the process if the other hosts do not join in time."""

  def give_up() -> None:
    asked = rendezvous.coordinator or "the first host"
    count = rendezvous.processes or "all"
    print(
      f"error: {count} hosts were to meet at {asked}, but some did not come "
      f"within {WAIT} s: start all with the same --coordinator and "
      "--processes, each with another --process, and let them reach that port",
      file=sys.stderr,
      flush=True,
    )
    os._exit(1)

  timer = threading.Timer(WAIT, give_up)
  timer.daemon = True
  timer.start()
  try:
    with leaving_by_sigterm():
      yield
  finally:
    timer.cancel()
