"""How a host finds the others, and what is said where it does not."""

import socket

import pytest

from proxyless_jax.run.hosts import joining
from proxyless_jax.run.hosts.joining import Rendezvous, find_rendezvous

TORCHRUN = {
  "MASTER_ADDR": "node1",
  "MASTER_PORT": "29500",
  "WORLD_SIZE": "8",
  "RANK": "5",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
  """Sets variables; none of them is set before."""
  for name in (*TORCHRUN, "LOCAL_RANK", joining.AGENT, joining.COORDINATOR):
    monkeypatch.delenv(name, raising=False)

  def set_all(**variables):
    for name, value in variables.items():
      monkeypatch.setenv(name, value)

  return set_all


def test_one_host_joins_none():
  assert find_rendezvous(False, None, None, None) is None


def test_flags_name_the_rendezvous():
  rendezvous = find_rendezvous(False, "10.0.0.1:1234", 2, 0)
  assert rendezvous == Rendezvous("10.0.0.1:1234", 2, 0)
  assert find_rendezvous(False, "[fe80::1]:1234", 2, 1).process == 1


def test_jax_has_a_variable_for_the_coordinator(environment):
  environment(JAX_COORDINATOR_ADDRESS="node1:7777")
  assert find_rendezvous(False, None, 2, 1) == Rendezvous("node1:7777", 2, 1)
  assert find_rendezvous(False, "node2:1", 2, 1) == Rendezvous("node2:1", 2, 1)
  # It alone does not make a run one of several hosts.
  assert find_rendezvous(False, None, None, None) is None


@pytest.mark.parametrize(
  "given, message",
  [
    ((False, "h:1", None, None), "--processes=None .*: expected all three"),
    ((False, None, 2, 0), "--coordinator=None .*: expected all three"),
    ((False, None, None, 0), "--process=0: expected all three"),
    ((True, "h:1", 2, 0), "--distributed: expected alone"),
    ((False, "h", 2, 0), "--coordinator=h: expected HOST:PORT"),
    ((False, ":1", 2, 0), "expected HOST:PORT"),
    ((False, "h:x", 2, 0), "expected HOST:PORT"),
    ((False, "h:70000", 2, 0), "expected HOST:PORT"),
    ((False, "h:1", 0, 0), "--processes=0: expected 1 or more"),
    ((False, "h:1", 2, 2), "--process=2: expected 0 to 1"),
    ((False, "h:1", 2, -1), "--process=-1: expected 0 to 1"),
  ],
)
def test_wrong_flags(given, message):
  with pytest.raises(ValueError, match=message):
    find_rendezvous(*given)


def test_jax_detects_the_rest():
  assert find_rendezvous(True, None, None, None) == Rendezvous()


def test_variables_of_torchrun(environment):
  environment(**TORCHRUN)
  assert find_rendezvous(True, None, None, None) == Rendezvous(
    "node1:29500", 8, 5
  )
  assert find_rendezvous(False, None, None, None) is None
  # torchrun listens at its port itself, and starts a process for each device.
  environment(TORCHELASTIC_USE_AGENT_STORE="True", LOCAL_RANK="1")
  assert find_rendezvous(True, None, None, None) == Rendezvous(
    "node1:29501", 8, 5, 1
  )


def test_wrong_variables_of_torchrun(environment):
  environment(**{**TORCHRUN, "RANK": "first"})
  with pytest.raises(ValueError, match="RANK, LOCAL_RANK: expected integers"):
    find_rendezvous(True, None, None, None)


def test_a_port_that_is_taken():
  # JAX would crash on it.
  with socket.create_server(("", 0)) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(ConnectionError, match=f"port {port} of this host"):
      joining.join(Rendezvous(f"127.0.0.1:{port}", 2, 0))


def test_no_cluster(monkeypatch):
  def initialize(*args, **options):
    raise ValueError("coordinator_address should be defined.")

  monkeypatch.setattr(joining.jax.distributed, "initialize", initialize)
  with pytest.raises(ValueError, match="--distributed: JAX found no cluster"):
    joining.join(Rendezvous())
