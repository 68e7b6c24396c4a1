"""ImageNet, for a GPU: the widths of the network that was published for it."""

from ml_collections import ConfigDict

from proxyless_jax.configs import base


def get_config(variant: str = "") -> ConfigDict:
  """Variants: those of `base`, and 'smoke' for all stages in a minute."""
  config = base.get_config(variant, others=("smoke",))
  config.space.update(stem_width=40, first_width=24, head_width=1728)
  config.space.widths = (32, 56, 112, 128, 256, 432)
  config.search.costs.hardware = base.cost("macs", "465 M MACs")
  return base.smoke(config) if variant == "smoke" else config
