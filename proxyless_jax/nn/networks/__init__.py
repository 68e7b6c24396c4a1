"""Modules of networks, a file per family.

Importing a file registers its module with `network_module`.
"""

from proxyless_jax.nn.networks import cells, chain, tree
