"""Networks from the `net.config` files of ProxylessNAS's authors.

JSON that their PyTorch networks write (github.com: mit-han-lab/proxylessnas;
mit-han-lab/mcunet and han-cai/files have more of the same form). Every field is
read: one without an equivalent in our networks is refused by name.
"""

from __future__ import annotations

from typing import Any

from proxyless_jax.space.edge import Size
from proxyless_jax.space.net_config.chain import proxyless_nas_nets
from proxyless_jax.space.net_config.fields import Fields
from proxyless_jax.space.net_config.tree import pyramid_tree_net
from proxyless_jax.space.networks.network import Network

READERS = {
  "ProxylessNASNets": proxyless_nas_nets,
  "PyramidTreeNet": pyramid_tree_net,
}


def network_from_net_config(
  data: dict[str, Any],
  *,
  image_size: Size | None = None,
  channels: int | None = None,
  classes: int | None = None,
) -> Network:
  """The architecture that a `net.config` describes, equal to that of the zoo.

  Args:
    data: contents of the file.
    image_size, channels, classes: values for the data instead of the file's;
      see `load_network`.

  Raises:
    ValueError: an unsupported field; the message names the field, its value and
      the supported ones.
  """
  fields = Fields("", data)
  read = READERS[fields.only("name", *READERS, absent=None)]
  return read(fields, image_size=image_size, channels=channels, classes=classes)
