"""A search for photos of your own, in a folder for each class.

The lengths and the target suit some thousand images of 64 pixels;
docs/photos.md says how to choose them.
"""

from ml_collections import ConfigDict

from proxyless_jax.configs import base


def get_config(variant: str = "") -> ConfigDict:
  """Variants: those of `base`."""
  config = base.get_config(variant)
  config.dtype = "float32"
  config.data.update(source="folder", name="", path="photos", image_size=64)
  config.data.update(crop_min_scale=0.3, test_fraction=0.2, arch_fraction=0.2)
  config.space.update(stem_width=16, first_width=0, head_width=256)
  config.space.update(widths=(16, 40, 80), depths=(2, 3, 3), strides=(1, 2, 2))
  # Weights alone, then the additive model: docs/searching.md says why.
  config.search.update(batch=64, lr_batch=64, lr=0.05, paths=4)
  config.search.update(warmup_epochs="auto", epochs="auto")
  config.search.arch.update(batch=64)
  config.derive.update(method="additive", paths=200, images=250, compare=50)
  config.search.costs.hardware = base.cost(
    "macs", "25 M MACs", form="at_most", weight=0.05, exponent=0.0
  )
  config.train.update(enabled=True, batch=64, lr_batch=64, epochs=60.0, lr=0.1)
  config.train.update(lr_warmup_epochs=2.0, ema_decay=0.99)
  config.evaluate.update(batch=250, recalibration_batches=20)
  config.measure.classes = 0  # As many as there are folders.
  config.run.update(log_every=50, checkpoint_every=400)
  return config
