"""WHAT may be chosen: networks as frozen descriptions, without arrays."""

from proxyless_jax.space.mobile import mobile_space
from proxyless_jax.space.network import (
  Edge,
  Network,
  load_network,
  macs,
  network_from_json,
  parameters,
)
from proxyless_jax.space.ops import (
  Classifier,
  ConvBN,
  MBConv,
  Op,
  Zero,
  parse_op,
)
