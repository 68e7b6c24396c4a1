"""`build`: the Linen module of a network of any family."""

from __future__ import annotations

from collections.abc import Collection

import jax.numpy as jnp

from proxyless_jax.nn.networks.base import NetworkModule, network_module
from proxyless_jax.space import Network
from proxyless_jax.space.checks import expect
from proxyless_jax.space.networks.network import check_network


def build(
  network: Network,
  *,
  dtype: jnp.dtype = jnp.float32,
  bn_momentum: float | None = None,
  dropout: float = 0.0,
  frozen: Collection[str] = (),
) -> NetworkModule:
  """The Linen module of a network: `apply(variables, images, train=False)`.

  Args:
    network: a space, whose `apply` also takes `gates`, or an architecture.
    dtype: type of activations; parameters stay float32.
    bn_momentum: momentum of the running batch-norm statistics; None for the
      network's.
    dropout: rate before the classifier; needs `rngs={'dropout': key}`.
    frozen: names of an architecture's edges that training leaves as they are:
      they run as in evaluation, and `train_step` trains the others.

  Raises:
    ValueError: no network, an option out of its range, or a name of no edge,
      or of a space's.
    TypeError: no module is registered for the network's family.
  """
  check_network("network", network)
  if bn_momentum is None:
    bn_momentum = network.bn_momentum
  _check_numbers(dtype, bn_momentum, dropout)
  _check_frozen(network, frozen)
  return network_module(
    network,
    dtype=dtype,
    bn_momentum=bn_momentum,
    dropout=dropout,
    frozen=frozenset(frozen),
  )


def _check_numbers(dtype, bn_momentum, dropout) -> None:
  try:
    floating = jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
  except TypeError:
    floating = False
  # NumPy takes None for float64.
  expect(floating and dtype is not None, "dtype", dtype, "a floating type")
  fraction = isinstance(bn_momentum, int | float) and 0 <= bn_momentum <= 1
  expect(fraction, "bn_momentum", bn_momentum, "a number from 0 to 1")
  fraction = isinstance(dropout, int | float) and 0 <= dropout < 1
  expect(fraction, "dropout", dropout, "a number of at least 0 and below 1")


def _check_frozen(network: Network, frozen) -> None:
  names = isinstance(frozen, Collection) and not isinstance(frozen, str)
  known = {edge.name for edge in network.layers}
  fits = names and known.issuperset(frozen)
  fits = fits and (network.is_architecture or not frozen)
  expected = f"names of an architecture's edges, such as [{min(known)!r}]"
  expect(fits, "frozen", frozen, expected)
