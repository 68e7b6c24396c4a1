"""The module of a chain of edges: supernets and architectures alike."""

from __future__ import annotations

from typing import Any

import jax

from proxyless_jax.nn.networks.base import NetworkModule, network_module
from proxyless_jax.space import Chain


class ChainModule(NetworkModule):
  """Runs a network's edges in order, with a shortcut where an edge has one.

  Drop path drops what lies beside a shortcut, of edges with one candidate.
  """

  network: Chain

  def run(
    self,
    x: jax.Array,
    train: bool,
    gates: Any,
    drop_rate: jax.Array | None,
  ) -> jax.Array:
    return self.line(self.network.layers, x, train, gates, drop_rate)


network_module.register(Chain, ChainModule)
