"""HOW it computes: Linen modules and array functions."""

from proxyless_jax.nn import ops  # Registers its operations.
from proxyless_jax.nn.layers.batch_norm import BatchNorm
from proxyless_jax.nn.layers.depthwise import depthwise_conv
from proxyless_jax.nn.networks.base import NetworkModule, network_module
from proxyless_jax.nn.networks.build import build
from proxyless_jax.nn.networks.init import init
from proxyless_jax.nn.ops.base import make
from proxyless_jax.nn.supernet.bank import banks, line_banks
from proxyless_jax.nn.supernet.inherit import inherit
from proxyless_jax.nn.supernet.mixed import EdgeGates, mixed_edges
from proxyless_jax.nn.supernet.wiring import Graph, Line, Wiring
