"""ImageNet, for a phone: the space and the reference of the released search."""

from ml_collections import ConfigDict

from proxyless_jax.configs import base


def get_config(variant: str = "") -> ConfigDict:
  """Variants: those of `base`, and 'smoke' for all stages in a minute."""
  config = base.get_config(variant, others=("smoke",))
  config.search.costs.hardware = base.cost("pixel1", "80 ms")
  return base.smoke(config) if variant == "smoke" else config
