"""Whether a search saves maps of drawn candidates, or computes them again.

The rule for `search.recompute = 'auto'`: it saves them where they take at most
`SHARE` of the memory of a device. Beside them a step needs the weights of all
candidates with their optimizer's state, the inputs of all edges, and the maps
of one edge. The rule sees the size of the memory, not what is free of it: a run
that resumes on the same machine decides alike.
"""

from __future__ import annotations

import contextlib
import os
import pathlib

import jax
import jax.numpy as jnp

from proxyless_jax.nn.networks.saved_bytes import saved_bytes
from proxyless_jax.run.config.sections import SearchOptions
from proxyless_jax.run.hosts import hosts
from proxyless_jax.space import Network

SHARE = 0.5
# Other programs use the memory of a host, too.
SHARE_OF_HOST = 0.25
# What a container may use.
LIMIT = pathlib.Path("/sys/fs/cgroup/memory.max")


def recomputes(search: SearchOptions, space: Network, dtype: jnp.dtype) -> bool:
  """`search.recompute`, or what the rule says: the same on all hosts.

  Args:
    search: options of the search.
    space: the search space.
    dtype: type of activations.
  """
  if isinstance(search.recompute, bool):
    return search.recompute
  parts = search.batch // search.parts, search.arch.batch // search.arch.parts
  images = max(1, max(parts) // jax.device_count())
  return hosts.on_first(lambda: saved_bytes(space, images, dtype) > _room())


def _room() -> float:
  """Bytes of a device's memory that saved maps may take."""
  stats = jax.local_devices()[0].memory_stats() or {}
  if "bytes_limit" in stats:
    return SHARE * stats["bytes_limit"]
  return SHARE_OF_HOST * host_memory() / jax.local_device_count()


def host_memory() -> int:
  """Bytes of memory of this host, or of the container that it is."""
  size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  # No such file, or the word 'max'.
  with contextlib.suppress(OSError, ValueError):
    size = min(size, int(LIMIT.read_text()))
  return size
