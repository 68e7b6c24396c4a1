"""ImageNet, for a CPU: the widths of the network that was published for it."""

from ml_collections import ConfigDict

from proxyless_jax.configs import base


def get_config(variant: str = "") -> ConfigDict:
  """Variants: those of `base`, and 'smoke' for all stages in a minute."""
  config = base.get_config(variant, others=("smoke",))
  config.space.update(stem_width=40, first_width=24, head_width=1432)
  config.space.widths = (32, 48, 88, 104, 216, 360)
  config.search.costs.hardware = base.cost("macs", "439 M MACs")
  return base.smoke(config) if variant == "smoke" else config
