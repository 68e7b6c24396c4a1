import random
import socket

import pytest

# Below the ports that systems give to outgoing connections, one of which could
# take a port between the test's look and the program's use of it.
PORTS = range(20_000, 32_000)


@pytest.fixture(scope="session")
def free_port():
  """Finds a port of this machine that nothing listens at."""

  def find():
    for port in random.sample(PORTS, 100):
      try:
        socket.create_server(("", port)).close()
      except OSError:
        continue
      return port
    raise AssertionError("found no free port")

  return find
